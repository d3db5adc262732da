//! Whose certificate a client has. Pure.

use serde::Deserialize;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// How many names of a certificate count.
const NAMES_MAX: usize = 16;

/// What is asked of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// Nothing.
    Off,
    /// A certificate, if a client has one.
    Optional,
    /// A certificate of each vehicle.
    Required,
}

/// The names in a client's certificate: its common name, and its alternative names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerNames {
    names: Vec<Box<str>>,
    /// When the certificate ends, in seconds since the Unix epoch. The handshake has checked it, but a ticket brings a
    /// client back without one.
    ends_unix: u64,
}

/// Why a client's certificate does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is none.
    #[error("a vehicle needs a client certificate here (tls.client_certificates)")]
    Missing,
    /// It has ended.
    #[error("the client certificate has expired; renew it")]
    Expired,
    /// It is somebody else's.
    #[error(
        "the client certificate is not for the subject of the token: neither its common name nor one of its alternative \
         names is the token's `sub`"
    )]
    Mismatch,
}

impl PeerNames {
    /// Reads them. A certificate that cannot be read has none, and so is nobody's.
    pub fn of(der: &[u8]) -> PeerNames {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return PeerNames::default();
        };
        let common = certificate
            .subject()
            .iter_common_name()
            .filter_map(|name| name.as_str().ok());
        let extension = certificate.subject_alternative_name().ok().flatten();
        let others = extension
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| match name {
                GeneralName::DNSName(name) | GeneralName::URI(name) => Some(*name),
                _ => None,
            });
        let ends = certificate.validity().not_after.timestamp();
        PeerNames {
            names: common
                .chain(others)
                .take(NAMES_MAX)
                .map(Box::from)
                .collect(),
            ends_unix: u64::try_from(ends).unwrap_or(0),
        }
    }

    /// Whether a client with this certificate, or none, may be `subject`.
    ///
    /// # Errors
    /// Why not.
    pub fn check(
        names: Option<&PeerNames>,
        policy: ClientCertificates,
        vehicle: bool,
        subject: &str,
        unix_s: u64,
    ) -> Result<(), NameError> {
        match names {
            Some(names) if names.ends_unix < unix_s => Err(NameError::Expired),
            Some(names) if names.names.iter().any(|name| &**name == subject) => Ok(()),
            Some(_) => Err(NameError::Mismatch),
            None if vehicle && policy == ClientCertificates::Required => Err(NameError::Missing),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &[&str]) -> PeerNames {
        PeerNames {
            names: of.iter().map(|name| Box::from(*name)).collect(),
            ends_unix: 1_000,
        }
    }

    #[test]
    fn a_certificate_is_its_subjects_alone() {
        use ClientCertificates::{Off, Optional, Required};
        let bus = names(&["bus-1", "bus-1.example"]);
        for (has, policy, vehicle, subject, expected) in [
            (None, Off, true, "bus-1", Ok(())),
            (None, Optional, true, "bus-1", Ok(())),
            (None, Required, true, "bus-1", Err(NameError::Missing)),
            (None, Required, false, "ada", Ok(())),
            (Some(&bus), Required, true, "bus-1", Ok(())),
            (Some(&bus), Optional, true, "bus-1.example", Ok(())),
            (
                Some(&bus),
                Optional,
                true,
                "bus-2",
                Err(NameError::Mismatch),
            ),
            (
                Some(&bus),
                Optional,
                true,
                "BUS-1",
                Err(NameError::Mismatch),
            ),
            (Some(&bus), Required, false, "ada", Err(NameError::Mismatch)),
            (
                Some(&names(&[])),
                Optional,
                true,
                "",
                Err(NameError::Mismatch),
            ),
        ] {
            assert_eq!(
                PeerNames::check(has, policy, vehicle, subject, 1_000),
                expected,
                "{has:?} {policy:?} {vehicle} {subject}"
            );
        }
    }

    #[test]
    fn names_are_read_from_the_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["bus-1.example".to_owned()]).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "bus-1");
        let certificate = params.self_signed(&key).unwrap();
        let read = PeerNames::of(certificate.der());
        assert_eq!(read.names, names(&["bus-1", "bus-1.example"]).names);
        assert_eq!(
            read.ends_unix,
            u64::try_from(params.not_after.unix_timestamp()).unwrap()
        );
        let policy = ClientCertificates::Optional;
        let at = |unix_s| PeerNames::check(Some(&read), policy, true, "bus-1", unix_s);
        assert_eq!(at(read.ends_unix), Ok(()));
        assert_eq!(at(read.ends_unix + 1), Err(NameError::Expired));
        assert_eq!(PeerNames::of(b"no certificate"), PeerNames::default());
    }
}
