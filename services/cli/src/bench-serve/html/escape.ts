const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Text as it goes into HTML and SVG, attributes too. Whatever a server or a file says ends up here. */
export function escapeHtml(text: string): string {
  // Control characters have no place in a document; browsers disagree on what they do with them.
  return text.replace(/[&<>"']/g, (char) => ENTITIES[char] as string).replace(/[^\P{Cc}\t\n\r]/gu, '\ufffd');
}

/** A value as JSON that may stand within a script element. */
export function scriptJson(value: unknown): string {
  return JSON.stringify(value)
    .replaceAll('<', '\\u003c')
    .replaceAll('\u2028', '\\u2028')
    .replaceAll('\u2029', '\\u2029');
}
