import type { Lab } from './lab.ts';

/** Something that goes wrong in a lab under load. */
export interface Fault {
  /** Kebab-case, unique. */
  name: string;
  /** What is done, one line. */
  about: string;
  /** What should come of it, one line. */
  expected: string;
  /** Why it cannot be made here, or null. */
  unavailable?: () => string | null;
  /** Before the load starts: brings the lab into the state that the fault needs. */
  prepare?: (lab: Lab) => Promise<void>;
  /** Makes it go wrong. */
  strike: (lab: Lab) => Promise<void>;
  /** True for one that lasts as long as the run says and then ends; others stay, or are over at once. */
  lasting?: boolean;
  /** Whether it had an effect, asked before its end where that could fail unseen. */
  felt?: (lab: Lab) => boolean | Promise<boolean>;
  /** Ends it. */
  heal?: (lab: Lab) => Promise<void>;
  /** Workers that do not come back: redundancy is reached without them. */
  lost: readonly string[];
  /** After the measurement: undoes what `restore` of the lab does not know of. */
  cleanUp?: (lab: Lab) => Promise<void>;
}
