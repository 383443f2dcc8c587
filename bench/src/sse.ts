/** JSON texts of the server-sent events of an answer, as they come. */
export async function* sseEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = '';
  for await (const part of body) {
    const lines = `${rest}${Buffer.from(part).toString()}`.split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) if (line.startsWith('data: {')) yield line.slice('data: '.length);
  }
}
