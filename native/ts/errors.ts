/** Codes of errors that the addon and its loader throw. `services/common` maps them to its registry. */
export const NATIVE_ERROR_CODES = ['NATIVE_INVALID_ARGUMENT', 'NATIVE_FAILURE', 'NATIVE_UNAVAILABLE'] as const;

export type NativeErrorCode = (typeof NATIVE_ERROR_CODES)[number];

/**
 * An error of the native layer. `NATIVE_INVALID_ARGUMENT` (a TypeError or RangeError whose message starts with the
 * argument's path) is the caller's mistake, `NATIVE_FAILURE` a failure of the work, `NATIVE_UNAVAILABLE` means that
 * the addon could not be loaded.
 */
export interface NativeError extends Error {
  code: NativeErrorCode;
}

export function isNativeError(error: unknown): error is NativeError {
  if (!(error instanceof Error) || !('code' in error)) return false;
  return (NATIVE_ERROR_CODES as readonly unknown[]).includes(error.code);
}

/** The error that `loadNative` throws. */
export function unavailable(message: string, cause: unknown): NativeError {
  return Object.assign(new Error(message, { cause }), { code: 'NATIVE_UNAVAILABLE' as const });
}
