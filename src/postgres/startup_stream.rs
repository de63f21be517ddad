//! A byte stream that adds `replication=database` to the startup packet that passes through it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// Protocol 3.0, the four bytes after the length of a startup packet (and of no other message that a
/// client sends before it: an SSLRequest carries 80877103 there, a TLS hello its record's length).
const STARTUP: [u8; 4] = 196_608_u32.to_be_bytes();

/// Passes everything but the first startup packet, which it lengthens by one parameter.
pub(super) struct StartupStream<S> {
    inner: S,
    /// The rewritten packet and how much of it is written; empty when there is nothing to write.
    packet: Vec<u8>,
    written: usize,
    rewritten: bool,
}

impl<S> StartupStream<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, packet: Vec::new(), written: 0, rewritten: false }
    }
}

/// The startup packet with the parameter appended; `None` when `message` is not a startup packet.
fn rewrite(message: &[u8]) -> Option<Vec<u8>> {
    const PARAMETER: &[u8] = b"replication\0database\0";
    let length = u32::from_be_bytes(message.get(0..4)?.try_into().ok()?);
    if message.get(4..8)? != STARTUP || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    let longer = length.checked_add(u32::try_from(PARAMETER.len()).ok()?)?;
    // The parameter list ends with one zero byte, which stays the last.
    let (parameters, end) = message[4..].split_at(message.len() - 5);
    Some([&longer.to_be_bytes(), parameters, PARAMETER, end].concat())
}

impl<S: AsyncWrite + Unpin> StartupStream<S> {
    fn poll_packet(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.packet.len() {
            let count = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.packet[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StartupStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_packet(cx))?;
        if !self.rewritten
            && let Some(packet) = rewrite(buf)
        {
            self.packet = packet;
            self.rewritten = true;
            // Taken whole; what the socket does not take now goes out with the next write or flush.
            if let Poll::Ready(Err(error)) = self.poll_packet(cx) {
                return Poll::Ready(Err(error));
            }
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_packet(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StartupStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: TlsStream + Unpin> TlsStream for StartupStream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.inner.channel_binding()
    }
}

/// Wraps the stream that a TLS connector makes: over TLS the startup packet passes inside it.
pub(super) struct ReplicationTls<T>(pub(super) T);

impl<S, T> TlsConnect<S> for ReplicationTls<T>
where
    T: TlsConnect<S>,
    T::Future: Send + 'static,
{
    type Stream = StartupStream<T::Stream>;
    type Error = T::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, Self::Error>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let handshake = self.0.connect(stream);
        Box::pin(async move { handshake.await.map(StartupStream::new) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    const PACKET: &[u8] = b"\0\0\0\x11\0\x03\0\0user\0me\0\0";

    #[test]
    fn only_a_startup_packet_is_lengthened() {
        let longer = rewrite(PACKET).unwrap();
        assert_eq!(longer, b"\0\0\0\x26\0\x03\0\0user\0me\0replication\0database\0\0");
        assert_eq!(rewrite(&[0, 0, 0, 8, 4, 210, 22, 47]), None);
        assert_eq!(rewrite(b"Q\0\0\0\x04"), None);
    }

    #[tokio::test]
    async fn a_narrow_stream_gets_the_packet_whole_and_what_follows_it_unchanged() {
        let (near, mut far) = tokio::io::duplex(3);
        let reader = tokio::spawn(async move {
            let mut seen = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut far, &mut seen).await.unwrap();
            seen
        });
        let mut stream = StartupStream::new(near);
        stream.write_all(PACKET).await.unwrap();
        stream.write_all(b"p later").await.unwrap();
        stream.flush().await.unwrap();
        drop(stream);
        assert_eq!(reader.await.unwrap(), b"\0\0\0\x26\0\x03\0\0user\0me\0replication\0database\0\0p later");
    }
}
