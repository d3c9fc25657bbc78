//! Client sockets by the place that their connection has in the node.

use std::io;

use mio::net::TcpStream;
use mio::{Registry, Token};
use skep_base::ConnId;

use crate::socket::Socket;
use crate::tokens;

/// One client's socket.
pub(crate) struct Connection {
    pub id: ConnId,
    pub socket: Socket,
}

/// All client sockets.
#[derive(Default)]
pub(crate) struct Connections {
    places: Vec<Option<Connection>>,
}

impl Connections {
    /// Takes in a socket under the id that the node gave it.
    pub fn add(&mut self, registry: &Registry, id: ConnId, stream: TcpStream) -> io::Result<()> {
        let place = place_of(id);
        let socket = Socket::new(registry, tokens::of_client(place), stream)?;
        if place >= self.places.len() {
            self.places.resize_with(place + 1, || None);
        }
        self.places[place] = Some(Connection { id, socket });
        Ok(())
    }

    pub fn by_token(&mut self, token: Token) -> Option<&mut Connection> {
        self.places.get_mut(tokens::client(token)?)?.as_mut()
    }

    pub fn get(&mut self, id: ConnId) -> Option<&mut Socket> {
        let connection = self.places.get_mut(place_of(id))?.as_mut()?;
        (connection.id == id).then_some(&mut connection.socket)
    }

    /// True if some client has not taken all that was written to it.
    pub fn any_blocked(&self) -> bool {
        self.places.iter().flatten().any(|c| c.socket.write_blocked)
    }

    /// Ends all connections, such that clients get what was sent to them.
    pub fn end_all(&mut self) {
        let mut ignored = Vec::new();
        for connection in self.places.drain(..).flatten() {
            connection.socket.end(&mut ignored);
        }
    }

    /// Closes a socket.
    pub fn remove(&mut self, id: ConnId) {
        if self.get(id).is_some() {
            self.places[place_of(id)] = None;
        }
    }
}

fn place_of(id: ConnId) -> usize {
    id.0 as u32 as usize
}
