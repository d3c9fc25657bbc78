//! The socket of a UDP listener, which answers from the address that it was asked at.
//!
//! A listener at a wildcard address has all of the machine's: the kernel would answer from that of the route back, and a client that
//! asked another would not know the answer for its own (ip(7), IP_PKTINFO; RFC 3542, section 6).

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// A client, and the address that it sends to, if there are several.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Ends {
    pub(crate) client: SocketAddr,
    own: Option<IpAddr>,
}

/// Has the kernel tell with each datagram where it was sent to, if `socket` is going to have several addresses.
///
/// # Errors
/// The system refuses.
pub(crate) fn prepare(socket: &impl AsFd, address: SocketAddr) -> io::Result<()> {
    match address.ip() {
        ip if !ip.is_unspecified() => {}
        IpAddr::V4(_) => setsockopt(socket, Ipv4PacketInfo, &true)?,
        IpAddr::V6(_) => setsockopt(socket, Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

/// The socket.
#[derive(Debug)]
pub(crate) struct Datagrams {
    socket: UdpSocket,
    /// Room for what the kernel tells; none if it has but one address.
    told: Option<RefCell<Vec<u8>>>,
}

impl Datagrams {
    /// Takes a socket that was [`prepare`]d.
    ///
    /// # Errors
    /// The runtime cannot use it.
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Datagrams> {
        let is_any = socket.local_addr()?.ip().is_unspecified();
        let told = is_any.then(|| RefCell::new(nix::cmsg_space!(in6_pktinfo)));
        Ok(Datagrams { socket: UdpSocket::from_std(socket)?, told })
    }

    /// Waits until there may be a datagram.
    ///
    /// # Errors
    /// Those of the socket.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// The length of a datagram that is there, and whose it is.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; those of the socket, among them what became of datagrams that were sent.
    pub(crate) fn try_receive(&self, room: &mut [u8]) -> io::Result<(usize, Ends)> {
        let Some(told) = &self.told else {
            let (n, client) = self.socket.try_recv_from(room)?;
            return Ok((n, Ends { client, own: None }));
        };
        let told = &mut told.borrow_mut();
        self.socket.try_io(Interest::READABLE, || receive(self.socket.as_raw_fd(), room, told))
    }

    /// Sends a datagram, from another address of the kernel's choice if it cannot be sent from its own.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room for it; those of the socket.
    pub(crate) fn try_send(&self, datagram: &[u8], to: Ends) -> io::Result<()> {
        if let Some(own) = to.own {
            let send = || send(self.socket.as_raw_fd(), datagram, to.client, own);
            match self.socket.try_io(Interest::WRITABLE, send) {
                // At [::] a broadcast over IPv4 is told like any address, and a link-local one is none without its interface.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {}
                sent => return sent,
            }
        }
        self.socket.try_send_to(datagram, to.client).map(|_| ())
    }

    /// Sends a datagram when there is room for it.
    ///
    /// # Errors
    /// Those of the socket.
    pub(crate) async fn send(&self, datagram: &[u8], to: Ends) -> io::Result<()> {
        loop {
            self.socket.writable().await?;
            match self.try_send(datagram, to) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return sent,
            }
        }
    }
}

fn receive(socket: RawFd, room: &mut [u8], told: &mut [u8]) -> io::Result<(usize, Ends)> {
    let mut room = [IoSliceMut::new(room)];
    let got = recvmsg::<SockaddrStorage>(socket, &mut room, Some(told), MsgFlags::empty())?;
    let from = got.address.as_ref().and_then(address).ok_or(io::ErrorKind::AddrNotAvailable)?;
    let own = got.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::from(info.ipi6_addr.s6_addr)),
        _ => None,
    });
    // Nothing can come from an address of many.
    Ok((
        got.bytes,
        Ends { client: from, own: own.filter(|own| !own.is_multicast() && !own.is_unspecified()) },
    ))
}

fn address(of: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = of.as_sockaddr_in().map(|v4| SocketAddrV4::from(*v4).into());
    v4.or_else(|| of.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into()))
}

fn send(socket: RawFd, datagram: &[u8], to: SocketAddr, own: IpAddr) -> io::Result<()> {
    let (v4, v6);
    // The route says which way it goes.
    let from = match own {
        IpAddr::V4(own) => {
            let ipi_spec_dst = in_addr { s_addr: u32::from_ne_bytes(own.octets()) };
            v4 = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr: in_addr { s_addr: 0 } };
            ControlMessage::Ipv4PacketInfo(&v4)
        }
        IpAddr::V6(own) => {
            v6 = in6_pktinfo { ipi6_addr: in6_addr { s6_addr: own.octets() }, ipi6_ifindex: 0 };
            ControlMessage::Ipv6PacketInfo(&v6)
        }
    };
    let to = SockaddrStorage::from(to);
    sendmsg(socket, &[IoSlice::new(datagram)], &[from], MsgFlags::empty(), Some(&to))?;
    Ok(())
}
