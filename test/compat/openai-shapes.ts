/**
 * The types of responses that every run of the suite is held to, as the official packages declare them. `oracle.ts` makes JSON schemas of
 * them, which tell a field that may be missing from one that may be null.
 */
import type OpenAI from 'openai';

interface List<T> {
  object: 'list';
  data: T[];
}

/** The first token of an echoed prompt has no log-probability: OpenAI's API has null there, which the package does not say. */
type Logprobs = Omit<OpenAI.CompletionChoice.Logprobs, 'token_logprobs' | 'top_logprobs'> & {
  token_logprobs: (number | null)[];
  top_logprobs: (Record<string, number> | null)[] | null;
};

type CompletionOf<Reason> = Omit<OpenAI.Completion, 'choices'> & {
  choices: { finish_reason: Reason; index: number; logprobs: Logprobs | null; text: string }[];
};

type Reason = OpenAI.CompletionChoice['finish_reason'];

export interface OpenAIShapes {
  chatCompletion: OpenAI.Chat.ChatCompletion;
  chatCompletionChunk: OpenAI.Chat.ChatCompletionChunk;
  completion: CompletionOf<Reason>;
  /** In a stream no choice but the last has a reason; the package has one type for both. */
  completionChunk: CompletionOf<Reason | null>;
  model: OpenAI.Model;
  models: List<OpenAI.Model>;
  file: OpenAI.FileObject;
  files: List<OpenAI.FileObject> & { has_more: boolean };
  fileDeleted: OpenAI.FileDeleted;
  upload: OpenAI.Upload;
  uploadPart: OpenAI.Uploads.UploadPart;
  batch: OpenAI.Batch;
  batches: List<OpenAI.Batch> & { has_more: boolean };
  response: OpenAI.Responses.Response;
  responseEvent: OpenAI.Responses.ResponseStreamEvent;
  inputItems: OpenAI.Responses.ResponseItemList;
  inputTokens: OpenAI.Responses.InputTokenCountResponse;
  error: { error: OpenAI.ErrorObject };
}

/** What may be asked. */
export interface OpenAIRequests {
  chatRequest: OpenAI.Chat.ChatCompletionCreateParamsNonStreaming;
  completionRequest: OpenAI.CompletionCreateParamsNonStreaming;
  responseRequest: OpenAI.Responses.ResponseCreateParamsNonStreaming;
}
