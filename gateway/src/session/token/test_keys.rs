//! Keys for tests. They protect nothing.

/// An HS256 secret.
pub const SECRET: &[u8] = b"a secret of thirty-two bytes or more";
/// Another one.
pub const OTHER_SECRET: &[u8] = b"another secret of at least 32 bytes!";
/// An Ed25519 private key.
pub const PRIVATE_PEM: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MC4CAQAwBQYDK2VwBCIEIJw0AOgBtx7WylPRuG1kxJS8OFPHz9aZjZjzzGFB1CDg\n\
-----END PRIVATE KEY-----\n\
";
/// Its public half.
pub const PUBLIC_PEM: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MCowBQYDK2VwAyEAGoiLX0SvtJakfWp8KknsF1QgwwBtLSfWoEoIZu0nMqw=\n\
-----END PUBLIC KEY-----\n\
";
/// The public half of another key.
pub const OTHER_PUBLIC_PEM: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MCowBQYDK2VwAyEA929wo/F7a4BjC/sl/y6gqI4iTrYG1xEOv0UMw5jChm0=\n\
-----END PUBLIC KEY-----\n\
";
