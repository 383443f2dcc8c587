import type { Board } from '../board.ts';
import { curves, latency, stat } from '../panels.ts';
import { quantile, QUANTILES, rate, ratio, sum } from '../queries.ts';

/** Tenants that a panel tells apart: those with most of it. */
const TOP = 10;

function top(metric: string, labels = ''): { expr: string; legend: string } {
  return { expr: `topk(${TOP}, ${rate(metric, ['tenant'], labels)})`, legend: '{{tenant}}' };
}

/** Who uses the API, who is turned away and why, and what its larger features do. */
export const api: Board = {
  name: 'api',
  title: 'API',
  description: 'Who uses the API and how much, who is turned away and why; grammars, tool calls, responses, batches.',
  rows: [
    {
      title: 'Now',
      panels: [
        stat({
          title: 'Waiting for a place',
          description: 'Completions in the queues of gateways.',
          unit: 'short',
          expr: sum('guildhall_gateway_queued_requests'),
        }),
        stat({
          title: 'Turned away',
          description: 'Refusals with 429 and 503 a second.',
          unit: 'reqps',
          expr: rate('guildhall_refusals_total'),
        }),
        stat({
          title: 'Quotas unchecked',
          description: 'Requests a second whose quota nobody checked, because Redis was away.',
          unit: 'reqps',
          expr: rate('guildhall_quota_checks_total', [], 'outcome=~"unchecked_.*"'),
          bad: { above: 0.01 },
        }),
        stat({
          title: 'Usage lost',
          description: 'Requests a second whose usage was not recorded.',
          unit: 'reqps',
          expr: rate('guildhall_usage_lost_total'),
          bad: { above: 0.001 },
        }),
        stat({
          title: 'In the background',
          description: 'Background responses that gateways generate.',
          unit: 'short',
          expr: sum('guildhall_background_responses'),
        }),
        stat({
          title: 'Batches waiting',
          description: 'Batches that wait for their turn.',
          unit: 'short',
          expr: `${sum('guildhall_batch_queue_depth')} or vector(0)`,
        }),
      ],
    },
    {
      title: 'Keys and tenants',
      panels: [
        curves({
          title: 'Requests by tenant',
          description: `The ${TOP} tenants with most completions. A key without a tenant is one of its own; --metric-tenants bounds how many are told apart, the rest is "other". guildhall usage tells it by key.`,
          unit: 'reqps',
          targets: [top('guildhall_tenant_requests_total')],
        }),
        curves({
          title: 'Prompt tokens by tenant',
          description: 'Tokens of prompts a second, cached ones among them.',
          unit: 'short',
          targets: [top('guildhall_tenant_tokens_total', 'kind="input"')],
        }),
        curves({
          title: 'Cached prompt tokens by tenant',
          description: 'Of those: found in the cache of a router and not computed.',
          unit: 'short',
          targets: [top('guildhall_tenant_tokens_total', 'kind="cached"')],
        }),
        curves({
          title: 'Generated tokens by tenant',
          description: 'Tokens of answers a second, thoughts among them.',
          unit: 'short',
          targets: [top('guildhall_tenant_tokens_total', 'kind="output"')],
        }),
        curves({
          title: 'Expert time by tenant',
          description: 'Seconds a second that workers computed experts. It is what a tenant costs.',
          unit: 'short',
          targets: [top('guildhall_tenant_expert_seconds_total')],
        }),
        curves({
          title: 'Refused keys',
          description: 'By reason. Many invalid ones: somebody guesses, or a client has an old key.',
          unit: 'reqps',
          targets: [{ expr: rate('guildhall_key_refusals_total', ['outcome']), legend: '{{outcome}}' }],
        }),
      ],
    },
    {
      title: 'Admission and quotas',
      panels: [
        curves({
          title: 'Turned away by reason',
          description: 'The reasons of x-guildhall-reason. 429 is about a caller, 503 about the service.',
          unit: 'reqps',
          targets: [{ expr: rate('guildhall_refusals_total', ['reason']), legend: '{{reason}}' }],
          stacked: true,
        }),
        curves({
          title: 'Quota checks',
          description: 'Taken, or refused for what. Unchecked ones mean that Redis is away.',
          unit: 'reqps',
          targets: [{ expr: rate('guildhall_quota_checks_total', ['outcome']), legend: '{{outcome}}' }],
        }),
        curves({
          title: 'Waiting for a place',
          description: 'Completions in the queue of each gateway, which --max-queued bounds.',
          unit: 'short',
          targets: [{ expr: sum('guildhall_gateway_queued_requests', ['pod']), legend: '{{pod}}' }],
        }),
        latency(
          {
            title: 'Wait for a place',
            description: 'Of completions that had to wait. Near --queue-ms they are refused.',
          },
          'guildhall_gateway_queue_seconds',
        ),
        curves({
          title: 'How waiting ended',
          description: 'Served, or not: timeout and full are 503 to the caller, gone is a caller that gave up.',
          unit: 'ops',
          targets: [{ expr: rate('guildhall_gateway_queue_total', ['outcome']), legend: '{{outcome}}' }],
          stacked: true,
        }),
      ],
    },
    {
      title: 'Grammars and tool calls',
      panels: [
        curves({
          title: 'Requests with a grammar',
          description: 'By whether it was compiled before (kept) or has to be. Refused ones are 400 to the caller.',
          unit: 'reqps',
          targets: [{ expr: rate('guildhall_grammar_requests_total', ['outcome']), legend: '{{outcome}}' }],
          stacked: true,
        }),
        curves({
          title: 'Compiled before',
          description: 'Share of requests with a grammar for which nothing was compiled.',
          unit: 'percentunit',
          max: 1,
          targets: [
            {
              expr: ratio(
                'guildhall_grammar_requests_total',
                'guildhall_grammar_requests_total',
                'outcome=~"kept|shared"',
              ),
              legend: 'kept',
            },
          ],
        }),
        latency(
          { title: 'Compilation', description: 'Time to compile a grammar. The request waits for it; steps do not.' },
          'guildhall_grammar_compile_seconds',
        ),
        curves({
          title: 'Steps with masks',
          description: 'Steps, or micro-batches of them, with a sequence that is held to a grammar; and all steps.',
          unit: 'ops',
          targets: [
            { expr: rate('guildhall_grammar_mask_seconds_count'), legend: 'with masks' },
            { expr: rate('guildhall_step_seconds_count'), legend: 'all' },
          ],
        }),
        curves({
          title: 'Wait for masks',
          description:
            'Time of such a step in which it waited for its masks. They are made while the step computes: it should be near 0.',
          unit: 's',
          targets: QUANTILES.map((q) => ({
            expr: quantile(q, 'guildhall_grammar_mask_seconds'),
            legend: `p${q * 100}`,
          })),
        }),
        curves({
          title: 'Answers with tools',
          description:
            'Choices of requests with tools. Malformed: the markup of a call is in the text, and no call came of it.',
          unit: 'ops',
          targets: [{ expr: rate('guildhall_tool_answers_total', ['outcome']), legend: '{{outcome}}' }],
          stacked: true,
        }),
      ],
    },
    {
      title: 'Responses and batches',
      panels: [
        curves({
          title: 'Responses stored',
          description: 'Responses that were over and to be kept in Redis. One that failed cannot be asked for again.',
          unit: 'ops',
          targets: [{ expr: rate('guildhall_responses_stored_total', ['outcome']), legend: '{{outcome}}' }],
        }),
        curves({
          title: 'Background responses',
          description: 'How runs ended. handed_over: another gateway goes on.',
          unit: 'ops',
          targets: [{ expr: rate('guildhall_background_responses_total', ['outcome']), legend: '{{outcome}}' }],
          stacked: true,
        }),
        curves({
          title: 'Lines of batches',
          description: 'By outcome. retried: the API had no room, and the line waits for its next attempt.',
          unit: 'ops',
          targets: [{ expr: rate('guildhall_batch_lines_total', ['outcome']), legend: '{{outcome}}' }],
          stacked: true,
        }),
        curves({
          title: 'Batches',
          description: 'Waiting for their turn, and worked on.',
          unit: 'short',
          targets: [
            { expr: `${sum('guildhall_batch_queue_depth')} or vector(0)`, legend: 'waiting' },
            { expr: `${sum('guildhall_batches_running')} or vector(0)`, legend: 'running' },
          ],
        }),
        curves({
          title: 'Batches that ended',
          description: 'By status.',
          unit: 'ops',
          targets: [{ expr: rate('guildhall_batches_total', ['status']), legend: '{{status}}' }],
        }),
        curves({
          title: 'Files',
          description: 'Bytes of files stored and read.',
          unit: 'Bps',
          targets: [{ expr: rate('guildhall_file_bytes_total', ['direction']), legend: '{{direction}}' }],
        }),
      ],
    },
  ],
};
