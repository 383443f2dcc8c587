/** One line of a page in the text format of Prometheus. */
export interface Sample {
  name: string;
  /** Between the braces, as written; empty without labels. */
  labels: string;
  value: number;
}

/** The samples of a /metrics page. */
export function readSamples(text: string): Sample[] {
  return text.split('\n').flatMap((line) => {
    const [, name, labels = '', value] = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    return name === undefined ? [] : [{ name, labels, value: Number(value) }];
  });
}

/** Sum of a metric over the label sets that contain `labels`, such as `state="used"`. */
export function sumOf(samples: readonly Sample[], name: string, labels = ''): number {
  return samples.reduce((sum, s) => (s.name === name && s.labels.includes(labels) ? sum + s.value : sum), 0);
}
