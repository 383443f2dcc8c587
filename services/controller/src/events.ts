import type { EventKind } from '@guildhall/common';

/** Notes something in the cluster's event log. Only the leader's notes are written, so that each is there once. */
export type Emit = (kind: EventKind, message: string, details?: Record<string, unknown>) => void;
