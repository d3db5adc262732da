//! The command line of `longhaul admin`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use crate::config::KeyAlgorithm;

/// Flags of `admin`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("signing").required(true).args(["dev_key", "key", "token_file"]))]
pub struct AdminArgs {
    /// The control plane of the node
    #[arg(
        long,
        value_name = "URL",
        env = "LONGHAUL_CONTROL",
        default_value = "http://127.0.0.1:9401"
    )]
    pub control: String,

    /// Sign a token for this call with the development key in this file, see `run --dev-key`
    #[arg(long, value_name = "FILE", conflicts_with = "algorithm")]
    pub dev_key: Option<PathBuf>,

    /// Sign a token for this call with the key in this file
    #[arg(long, value_name = "FILE", requires = "algorithm")]
    pub key: Option<PathBuf>,

    /// What the key in --key is
    #[arg(long, requires = "key")]
    pub algorithm: Option<KeyAlgorithm>,

    /// Name of the key, for a gateway whose keys have a kid
    #[arg(long)]
    pub kid: Option<String>,

    /// The claim `iss`, for a gateway that checks it
    #[arg(long)]
    pub issuer: Option<String>,

    /// The claim `aud`, for a gateway that checks it
    #[arg(long)]
    pub audience: Option<String>,

    /// Take the token in this file instead; it is good for one call that changes anything
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Who you are, for the audit log
    #[arg(
        long = "as",
        value_name = "NAME",
        env = "USER",
        default_value = "operator"
    )]
    pub name: String,

    /// Be an operator of this fleet only
    #[arg(long, value_name = "FLEET")]
    pub of_fleet: Option<String>,

    /// What to do
    #[command(subcommand)]
    pub call: AdminCall,
}

/// What an operator may ask for.
#[derive(Debug, Subcommand)]
pub enum AdminCall {
    /// Make tokens good no more, and close those who are connected with one
    Revoke {
        /// Whose
        #[command(flatten)]
        whom: WhomArgs,
        /// Those issued before this moment, in seconds since the Unix epoch; left out: all that there are, and
        /// those of the next auth.leeway_s, in case the issuer's clock is ahead
        #[arg(long, value_name = "SECONDS")]
        issued_before: Option<u64>,
        /// Forget about it at this moment, when the last of them has ended
        #[arg(long, value_name = "SECONDS")]
        until: Option<u64>,
        /// Why, for people
        #[arg(long)]
        reason: Option<String>,
    },
    /// Take a revocation back
    Unrevoke {
        /// Whose
        #[command(flatten)]
        whom: WhomArgs,
    },
    /// List revocations
    Revocations {
        /// Where the list goes on
        #[arg(long, default_value_t = 0)]
        from: usize,
    },
    /// Close connections now; whoever it is may come back
    Evict {
        /// The fleet
        #[arg(long)]
        fleet: String,
        /// A vehicle's id or a user; left out: everybody of the fleet
        #[arg(long)]
        subject: Option<String>,
    },
    /// Read keys, certificates and lists again, as on SIGHUP
    Reload,
    /// Send everybody away, and end
    Drain {
        /// Where clients are to go instead, such as wss://edge-2.example/v1
        #[arg(long, value_name = "URL")]
        alternative: Option<String>,
        /// Why, for people
        #[arg(long)]
        reason: Option<String>,
    },
    /// Make any other call, such as: call PUT /admin/fleets/north/groups/night '{"vehicles":["truck-1"]}'
    Call {
        /// GET, POST, PUT or DELETE
        method: String,
        /// Such as /admin/revocations
        path: String,
        /// The body, in JSON
        body: Option<String>,
    },
}

/// Whose tokens.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whom").required(true).multiple(true).args(["token_id", "fleet", "operator", "all"]))]
pub struct WhomArgs {
    /// The one with this id (the claim `jti`)
    #[arg(long, value_name = "ID", conflicts_with_all = ["subject", "operator", "all"])]
    pub token_id: Option<String>,

    /// A fleet's, or with --subject those of one of it
    #[arg(long, conflicts_with_all = ["operator", "all"])]
    pub fleet: Option<String>,

    /// A vehicle's id, or a user
    #[arg(long, requires = "fleet")]
    pub subject: Option<String>,

    /// An operator's
    #[arg(long, value_name = "NAME", conflicts_with = "all")]
    pub operator: Option<String>,

    /// Everybody's
    #[arg(long)]
    pub all: bool,
}
