export { LEASE_MS, MemberLease, type MemberLeaseOptions, RENEW_MS } from './member-lease.ts';
export { type MemberEntry, MemberView, type MemberViewOptions } from './member-view.ts';
