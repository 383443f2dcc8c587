import { serviceOptions, hostPortField } from '@guildhall/common';
import { z } from 'zod';
import { PARSER_NAMES, TOOL_PARSER_NAMES } from './parsers/registry.ts';
import { ROUTING_MODES } from './routing/choose-router.ts';

const words = z.array(z.string().min(1));

/** Options of the gateway. */
export const gatewaySchema = z.object({
  ...serviceOptions,
  listen: hostPortField().default('127.0.0.1:8000').describe('host:port of the HTTP API; port 0 takes a free one.'),
  httpsCert: z
    .string()
    .nullable()
    .default(null)
    .describe('PEM file with the certificate of the HTTP API; TLS is off without it.'),
  httpsKey: z.string().nullable().default(null).describe('PEM file with the key of that certificate.'),
  model: z
    .string()
    .min(1)
    .describe('Checkpoint directory; tokenizer, chat template and limits are read from it, no weights.'),
  servedModelName: words
    .default([])
    .describe(
      'Names under which the model is served; by default those that the routers serve. The first is the one in answers.',
    ),
  apiKey: words
    .default([])
    .describe('Key that callers must send as `Authorization: Bearer <key>`.')
    .meta({ secret: true }),
  apiKeys: words
    .default([])
    .describe('Further keys, separated by commas; for GUILDHALL_API_KEYS.')
    .meta({ secret: true }),
  apiKeyFile: z
    .string()
    .nullable()
    .default(null)
    .describe(
      'File with one key a line, after it perhaps the name of its tenant; keys of one name share a tenant. # starts a comment.',
    ),
  allowAnonymous: z
    .boolean()
    .default(false)
    .describe(
      'Serve callers beyond this machine without API keys: for a gateway behind something that authenticates, or in a network that only trusted callers reach.',
    ),
  allowPriority: z
    .enum(['auto', 'on', 'off'])
    .default('auto')
    .describe(
      'Whether requests may set `priority`; auto: only without API keys, since a caller could push past the others.',
    ),
  maxContext: z
    .int()
    .min(1)
    .nullable()
    .default(null)
    .describe("Longest prompt and answer together; by default the routers' own limit."),
  defaultMaxTokens: z
    .int()
    .min(1)
    .nullable()
    .default(null)
    .describe('max_tokens of chat requests that give none; by default what the context leaves.'),
  generationConfig: z
    .enum(['auto', 'none'])
    .default('auto')
    .describe("Whether the checkpoint's generation_config.json gives sampling defaults."),
  reasoningParser: z
    .enum(['auto', ...PARSER_NAMES])
    .default('auto')
    .describe('How thinking is told from the answer; auto: qwen3 where the vocabulary has </think>.'),
  toolCallParser: z
    .enum(['auto', ...TOOL_PARSER_NAMES])
    .default('auto')
    .describe(
      'Form in which the model writes tool calls; auto: the one that the chat template shows; none: calls come back as text.',
    ),
  thinkingEndText: z
    .string()
    .max(1000)
    .default(
      'Considering the limited time by the user, I have to give the solution based on the thinking directly now.',
    )
    .describe(
      'Sentence that ends a think block whose budget is used up, before its </think>; the default is the one that Qwen names.',
    ),
  bodyLimitBytes: z
    .int()
    .min(1024)
    .max(1 << 30)
    .default(8 << 20)
    .describe('Largest request body.'),
  responseTtlS: z
    .int()
    .min(60)
    .max(366 * 86_400)
    .default(86_400)
    .describe('How long responses are kept in Redis after they were made or gone on from, in seconds.'),
  responseMaxBytes: z
    .int()
    .min(1024)
    .max(64 << 20)
    .default(4 << 20)
    .describe('Largest input of a response that is kept.'),
  responseTenantMib: z
    .int()
    .min(1)
    .max(1 << 20)
    .default(256)
    .describe('MiB of responses that one tenant may keep; those that were used longest ago make room for new ones.'),
  maxBackgroundResponses: z
    .int()
    .min(0)
    .max(1_000_000)
    .default(1000)
    .describe('Background responses that wait or run in the cluster; more are refused with 503.'),
  maxInFlight: z.int().min(1).default(1024).describe('Completions at a time; more are refused with 429.'),
  requestTimeoutMs: z.int().min(0).default(1_800_000).describe('Longest duration of a completion; 0 means no limit.'),
  routing: z
    .enum(ROUTING_MODES)
    .default('kv')
    .describe(
      'How a router is chosen: by the time until the first token, with what each holds of the prompt (kv), by load, or in turn.',
    ),
  routingTimeoutMs: z
    .int()
    .min(1)
    .max(1000)
    .default(25)
    .describe(
      'How long a request waits for the directory of cached prefixes before it is routed by load; up to ten times as long where the prompt would take long to compute.',
    ),
  resumeTimeoutMs: z
    .int()
    .min(0)
    .default(60_000)
    .describe('How long a stream whose router died or drains waits for another one.'),
  maxFruitlessResumes: z
    .int()
    .min(1)
    .default(2)
    .describe(
      'Routers that may die under a request without a new token from them, with no other suspicious request beside it, before it is taken for the cause and fails.',
    ),
  quarantineMs: z
    .int()
    .min(0)
    .default(600_000)
    .describe('How long a request that broke processes is refused by every gateway; 0 for never.'),
  holdMs: z
    .int()
    .min(0)
    .max(3_600_000)
    .default(0)
    .describe(
      'How long requests wait for a first router while the model wakes up, in ms; 0: they are refused at once. Their own time limit holds as well.',
    ),
  maxHeld: z
    .int()
    .min(1)
    .max(100_000)
    .default(256)
    .describe('Requests that wait for a first router at a time; more are refused with 503.'),
  keepAliveMs: z.int().min(100).default(10_000).describe('A comment is sent on a stream that was silent for so long.'),
  lingerMs: z
    .int()
    .min(0)
    .max(120_000)
    .default(0)
    .describe(
      'How long new requests are still taken after a drain began, until load balancers send them elsewhere; answers close their connections.',
    ),
  drainMs: z
    .int()
    .min(0)
    .max(3_600_000)
    .default(8000)
    .describe('How long running requests may go on after that when the process is asked to stop.'),
});

export type GatewayConfig = z.output<typeof gatewaySchema>;
