/** Largest absolute difference of float32 logits from the reference's. */
export const LOGIT_TOLERANCE = 1e-4;
/** Mean KL divergence that BF16 may always have from the float32 reference. */
export const KL_FLOOR = 1e-3;
/** How many times the reference's own BF16 divergence ours may be. */
export const KL_FACTOR = 1.5;
