//! The control plane, what its calls ask for, and the audit log.

use std::time::Duration;

/// Connections that the control plane serves at once; further ones wait in the kernel's backlog.
pub const CONTROL_CONNECTIONS_MAX: usize = 64;
/// Bytes of a request's line and headers at the control plane.
pub const CONTROL_HEADER_BYTES_MAX: usize = 16_384;
/// Bytes of a request's body at the control plane.
pub const CONTROL_BODY_BYTES_MAX: usize = 4_096;
/// Threads for what the control plane does that takes long: reading files, asking for keys.
pub const CONTROL_BLOCKING_THREADS_MAX: usize = 4;
/// How long the control plane waits for a request's headers, on a kept-alive connection too.
pub const CONTROL_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the control plane works on an answer.
pub const CONTROL_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stopping control plane waits for answers under way.
pub const CONTROL_STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of the body of a call that changes a group.
pub const GROUP_BODY_BYTES_MAX: usize = 4 << 20;
/// Groups in one answer to a call that lists them.
pub const GROUPS_LISTED_MAX: usize = 1_000;
/// Vehicles of a group in one answer.
pub const MEMBERS_LISTED_MAX: usize = 10_000;
/// Bytes of the file of groups in the state folder.
pub const GROUPS_FILE_BYTES_MAX: u64 = 1 << 30;
/// Entries in one answer to a call that lists them.
pub const REVOCATIONS_LISTED_MAX: usize = 1_000;
/// Tokens of operators that were used for a call and have not ended; beyond, calls that change anything are refused.
pub const OPERATOR_TOKENS_SPENT_MAX: usize = 65_536;
/// Bytes of the file that they are kept in.
pub const OPERATOR_TOKENS_FILE_BYTES_MAX: u64 = 32 << 20;
/// Longest life of such a token, exp - iat, in seconds.
pub const OPERATOR_TOKEN_SECONDS_MAX: u64 = 600;
/// Bytes of an answer that `longhaul admin` reads.
pub const ADMIN_ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Bytes of one text in a line of the audit log.
pub const AUDIT_TEXT_BYTES_MAX: usize = 512;
/// Lines that one known user gets in a second in the audit log for what was refused or only asked; the rest is a number.
pub const AUDIT_SAME_PER_SECOND_MAX: u32 = 5;
