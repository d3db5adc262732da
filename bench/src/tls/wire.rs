//! A client's socket, plain or with a TLS session over it: reads and writes as of a nonblocking socket.

use std::io::{Error, ErrorKind, Read, Result, Write};

use mio::net::TcpStream;
use rustls::ClientConnection;

/// Plain, or TLS.
pub struct Wire {
    /// For the poller.
    pub stream: TcpStream,
    session: Option<Box<ClientConnection>>,
}

impl Wire {
    /// With `session`, its handshake is made by the first reads and writes.
    pub fn new(stream: TcpStream, session: Option<ClientConnection>) -> Self {
        Self {
            stream,
            session: session.map(Box::new),
        }
    }

    /// Whether a read that does not fill its buffer has emptied the socket: not so with TLS, which reads by the record.
    pub fn is_emptied_by_a_short_read(&self) -> bool {
        self.session.is_none()
    }

    /// Decrypted bytes. 0: the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let Self { stream, session } = self;
        let Some(session) = session else {
            return stream.read(buffer);
        };
        loop {
            match session.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // An end without close_notify: how a gateway ended is what its close frame says.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
            session.read_tls(stream)?;
            let fate = session.process_new_packets();
            // Its part of the handshake, or an alert.
            let flushed = flush(session, stream);
            fate.map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
            flushed?;
        }
    }

    /// How many bytes were taken: with TLS, none before those in front of them have gone out.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let Self { stream, session } = self;
        let Some(session) = session else {
            return stream.write(bytes);
        };
        flush(session, stream)?;
        if session.wants_write() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let taken = session.writer().write(bytes)?;
        flush(session, stream)?;
        match taken {
            // Until the handshake is made, a session keeps only so much.
            0 if !bytes.is_empty() => Err(ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        }
    }

    /// Sends what is encrypted and has not gone out.
    pub fn flush(&mut self) -> Result<()> {
        let Self { stream, session } = self;
        session
            .as_mut()
            .map_or(Ok(()), |session| flush(session, stream))
    }
}

/// Sends until the socket is full, which is no error.
fn flush(session: &mut ClientConnection, stream: &mut TcpStream) -> Result<()> {
    while session.wants_write() {
        match session.write_tls(stream) {
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::NotConnected
                ) =>
            {
                return match stream.take_error()? {
                    Some(error) => Err(error),
                    None => Ok(()),
                };
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
