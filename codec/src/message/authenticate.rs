//! The one message that both vehicles and dashboards send.

use std::fmt;

use flatbuffers::{UnionWIPOffset, WIPOffset};
use serde::{Deserialize, Serialize};

use super::{Builder, Write};
use crate::wire;

/// A fresh token in place of the one that this connection came with.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authenticate {
    /// The client's number for this request; `Ack` or `Error` carries it back.
    #[serde(default)]
    pub request: u64,
    /// The token: of the same subject, fleet and role.
    pub token: String,
}

/// Everything but the token.
impl fmt::Debug for Authenticate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Authenticate")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

impl From<wire::Authenticate<'_>> for Authenticate {
    fn from(view: wire::Authenticate<'_>) -> Self {
        Self {
            request: view.request(),
            token: view.token().to_owned(),
        }
    }
}

impl Write for Authenticate {
    fn write(&self, builder: &mut Builder) -> WIPOffset<UnionWIPOffset> {
        let args = wire::AuthenticateArgs {
            request: self.request,
            token: Some(builder.create_string(&self.token)),
        };
        wire::Authenticate::create(builder, &args).as_union_value()
    }
}
