/** A message of a conversation, as the API takes it. */
export interface Message {
  role: string;
  content: unknown;
}

/** One request to come. */
export interface Turn {
  /** Messages that are added to the conversation; for text completions, their texts are joined. */
  messages: Message[];
  /** Tokens to generate; null leaves it to the server. */
  outputTokens: number | null;
  /** Tokens that the added messages were made to have; null where that is unknown. */
  plannedTokens: number | null;
  /** Time between the end of the answer before and this request. */
  thinkMs: number;
}

/** Requests of which each waits for the answer to the one before. */
export interface Conversation {
  index: number;
  /** When the first one is due, from the beginning; only traces say. */
  atMs: number | null;
  turns: Turn[];
}

/** Where requests come from: a pure function of its options and the salt. */
export interface Workload {
  /** What it is, for reports. */
  readonly description: string;
  /** True when conversations say when they are due. */
  readonly timed: boolean;
  /** Conversations from the first on. Another salt gives other texts with the same lengths, which no cache has seen. */
  conversations(salt: string): AsyncIterable<Conversation> | Iterable<Conversation>;
}
