import type { Server } from '@grpc/grpc-js';
import { HealthImplementation } from 'grpc-health-check';
import type { Clock, Timer } from '../clock.ts';

/** Path of the one method that needs no cluster token: what asks for health has none, and learns one word. */
export const HEALTH_CHECK_PATH = '/grpc.health.v1.Health/Check';

/** How often readiness is asked for. */
const UPDATE_MS = 500;

export interface GrpcHealthOptions {
  /** Full names of the server's services. */
  services: readonly string[];
  ready: () => boolean;
  clock: Clock;
}

/**
 * `grpc.health.v1.Health` of a server: SERVING or NOT_SERVING by readiness, for the whole server (the empty name) and for
 * each of its services.
 */
export class GrpcHealth {
  readonly #options: GrpcHealthOptions;
  readonly #health: HealthImplementation;
  readonly #names: readonly string[];
  readonly #timer: Timer;
  #serving = false;

  constructor(server: Server, options: GrpcHealthOptions) {
    this.#options = options;
    this.#names = ['', ...options.services];
    this.#health = new HealthImplementation(Object.fromEntries(this.#names.map((name) => [name, 'NOT_SERVING'])));
    this.#health.addToServer(server);
    this.#timer = options.clock.setInterval(UPDATE_MS, () => this.update());
    this.update();
  }

  /** Takes readiness over now, because it has changed. */
  update(): void {
    this.#set(this.#options.ready());
  }

  /** NOT_SERVING from now on. */
  close(): void {
    this.#timer.cancel();
    this.#set(false);
  }

  #set(serving: boolean): void {
    if (serving === this.#serving) return;
    this.#serving = serving;
    for (const name of this.#names) this.#health.setStatus(name, serving ? 'SERVING' : 'NOT_SERVING');
  }
}
