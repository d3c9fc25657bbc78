//! Users on this node: what the meta state says of them, made into rights that commands are checked against.
//!
//! Every cell keeps its own, made anew for users that have changed when the meta state brings them. A client holds the rights
//! of its user, or nothing if the user may do everything, so that a command of such a client costs one look.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_acl::{
    Context, DEFAULT_USER, DenialLog, Denied, Generator, PasswordHash, Reason, Rights, User, Users, carry,
};
use skep_base::args::OwnedArgs;
use skep_base::{Args, ConnId, Refusal};
use skep_command::{CommandSpec, resolve};
use skep_keyspace::calls_script;
use skep_pubsub::Kind;

use crate::client::{Client, Login};
use crate::on_client::Flow;
use crate::{Node, Output};

/// All users as this cell knows them.
pub(crate) struct Acl {
    /// What `known` was made of.
    seen: Arc<Users>,
    seen_password: String,
    known: BTreeMap<Vec<u8>, Known>,
    pub log: DenialLog,
    pub generator: Generator,
}

/// A user and what it may do.
struct Known {
    user: User,
    name: Arc<[u8]>,
    /// `None`: everything.
    rights: Option<Arc<Rights>>,
}

impl Acl {
    /// `secret` is the node's; each cell draws other passwords from it.
    pub fn new(secret: [u8; 32], cell: usize) -> Acl {
        let mut acl = Acl {
            seen: Arc::default(),
            seen_password: String::new(),
            known: BTreeMap::new(),
            log: DenialLog::default(),
            generator: Generator::new(secret, cell as u64),
        };
        acl.know(DEFAULT_USER, User::first_default(None));
        acl
    }

    pub fn user(&self, name: &[u8]) -> Option<&User> {
        self.known.get(name).map(|known| &known.user)
    }

    /// In order of names.
    pub fn users(&self) -> impl ExactSizeIterator<Item = (&[u8], &User)> {
        self.known.iter().map(|(name, known)| (name.as_slice(), &known.user))
    }

    /// As whom a connection begins.
    pub fn first_login(&self) -> Login {
        let default = self.known.get(DEFAULT_USER).expect("the default user is never removed");
        let authenticated = default.user.is_open();
        Login { user: default.name.clone(), rights: default.rights.clone(), authenticated }
    }

    /// What a user may do. `None` if there is no such user.
    pub fn rights_of(&self, name: &[u8]) -> Option<Rights> {
        self.user(name).map(Rights::of)
    }

    /// True if somebody else may log in as this user than before.
    fn know(&mut self, name: &[u8], user: User) -> bool {
        let before = self.user(name);
        if before == Some(&user) {
            return false;
        }
        let way_in = |user: &User| (user.enabled, user.no_password, user.passwords.clone());
        let is_another = before.map(way_in) != Some(way_in(&user));
        let rights = Rights::of(&user);
        let rights = (!rights.is_unlimited()).then(|| Arc::new(rights));
        self.known.insert(name.to_vec(), Known { user, name: name.into(), rights });
        is_another
    }

    /// Takes over the cluster's users. Until somebody changes the default user, it is the node's settings that say whether it
    /// has a password. Gives the users that others may log in as than before; `None` if all is known already.
    fn learn(&mut self, users: &Arc<Users>, password: &str) -> Option<Vec<Vec<u8>>> {
        if Arc::ptr_eq(users, &self.seen) && password == self.seen_password {
            return None;
        }
        self.known.retain(|name, _| name == DEFAULT_USER || users.contains_key(name));
        let mut changed = Vec::new();
        for (name, user) in users.iter() {
            if self.know(name, user.clone()) {
                changed.push(name.clone());
            }
        }
        if !users.contains_key(DEFAULT_USER) && self.know(DEFAULT_USER, first_default(password)) {
            changed.push(DEFAULT_USER.to_vec());
        }
        self.seen = users.clone();
        password.clone_into(&mut self.seen_password);
        Some(changed)
    }
}

/// The default user of a node with this `requirepass`, before anybody changes it.
pub(crate) fn first_default(password: &str) -> User {
    User::first_default((!password.is_empty()).then(|| PasswordHash::of(password.as_bytes())))
}

impl Node {
    /// Takes over users and the password that have changed, for all connections. Gives connections that are to be closed: those
    /// of users that are no more, or that listen to what they may not hear any longer. Others stay logged in, but while the node is starting: then it learns what was changed while
    /// it was down, and who came in by an older password comes again.
    pub(crate) fn learn_users(&mut self) -> Vec<ConnId> {
        let Some(changed) = self.acl.learn(&self.meta.state.users, self.settings.requirepass()) else {
            return Vec::new();
        };
        let open = self.acl.first_login().authenticated;
        let (mut gone, mut listeners) = (Vec::new(), Vec::new());
        for client in self.clients.iter_mut().filter(|client| !client.inside) {
            match self.acl.known.get(&client.user[..]) {
                Some(known) => {
                    let is_same = match (&client.rights, &known.rights) {
                        (Some(before), Some(after)) => Arc::ptr_eq(before, after),
                        (before, after) => before.is_none() && after.is_none(),
                    };
                    if let Some(transaction) = client.transaction.as_mut().filter(|_| !is_same) {
                        // What is queued was allowed by other rules.
                        transaction.fail();
                    }
                    if !is_same && waits_for_what_it_may_not(client, known.rights.as_deref()) {
                        gone.push(client.id);
                    }
                    client.rights.clone_from(&known.rights);
                }
                None => gone.push(client.id),
            }
            if !self.ready && client.authenticated && changed.iter().any(|name| **name == client.user[..]) {
                gone.push(client.id);
            }
            client.authenticated |= open;
            if client.subscribed && client.rights.is_some() {
                listeners.push(client.id);
            }
        }
        gone.extend(listeners.into_iter().filter(|conn| self.hears_what_it_may_not(*conn)));
        gone
    }

    /// True if a client listens to something that its user may not hear.
    fn hears_what_it_may_not(&self, conn: ConnId) -> bool {
        let Some(rights) = self.clients.get(conn).and_then(|client| client.rights.as_deref()) else {
            return false;
        };
        [Kind::Channel, Kind::Pattern, Kind::Shard].into_iter().any(|kind| {
            let names = self.pubsub.table.names_of(conn, kind);
            names.iter().any(|name| !rights.may_receive(name, kind == Kind::Pattern))
        })
    }

    /// The users may have changed: their clients have other rights from here on, or none.
    pub(crate) fn on_users_changed(&mut self, out: &mut Vec<Output>) {
        for conn in self.learn_users() {
            let Some(client) = self.clients.get_mut(conn) else { continue };
            if client.pending() > 0 && client.waits_on.is_nowhere() {
                // It gets what it is owed; one of these replies may be to its own ACL DELUSER.
                client.closing = true;
            } else {
                self.drop_client(conn, "its user was deleted, or has other rights".into(), out);
            }
        }
    }

    /// Logs a connection in.
    ///
    /// # Errors
    /// No such user, not its password, or it may not log in; the connection is what it was.
    pub(crate) fn authenticate(
        &mut self,
        conn: ConnId,
        user: Option<&[u8]>,
        password: &[u8],
        args: Args<'_>,
    ) -> Result<(), Refusal> {
        let name = user.unwrap_or(DEFAULT_USER);
        if user.is_none() && self.acl.user(DEFAULT_USER).is_some_and(|default| default.no_password) {
            return Err(Refusal::text(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            ));
        }
        match self.acl.known.get(name).filter(|known| known.user.admits(password)) {
            Some(known) => {
                let (user, rights) = (known.name.clone(), known.rights.clone());
                let client = self.client(conn);
                (client.user, client.rights, client.authenticated) = (user, rights, true);
                Ok(())
            }
            None => {
                self.note_denial(conn, Reason::Auth, &args[0], name);
                Err(Refusal::text("WRONGPASS invalid username-password pair or user is disabled."))
            }
        }
    }

    /// Declines a command that the client's user may not run.
    #[cold]
    pub(crate) fn deny(
        &mut self,
        conn: ConnId,
        command: &'static CommandSpec,
        args: Args<'_>,
    ) -> Option<Flow> {
        let client = self.clients.get_mut(conn)?;
        let rights = client.rights.as_deref()?;
        let denied = rights.check(command, args).err()?;
        let (prefix, noted) = match denied {
            Denied::Command => ("NOPERM", Some((Reason::Command, command.name.as_bytes()))),
            Denied::Key(at) => ("NOPERM", Some((Reason::Key, &args[at]))),
            Denied::Channel(at) => ("NOPERM", Some((Reason::Channel, &args[at]))),
            // As in Redis.
            Denied::Pattern(_) => ("ERR", None),
        };
        let refusal = Refusal::format(format!("{prefix} {}", denied.brief(&client.user, command)));
        if client.pending() > 0 {
            client.waiting = true;
            return Some(Flow::Wait);
        }
        if let Some((reason, object)) = noted {
            let user = client.user.clone();
            self.note_denial(conn, reason, object, &user);
        }
        Some(self.refuse(conn, Some(command), &refusal))
    }

    /// A call of a script with the rights of its user, who may not do everything. Its replicas check by these.
    #[cold]
    pub(crate) fn with_rights(
        &self,
        conn: ConnId,
        command: &CommandSpec,
        args: Args<'_>,
    ) -> Option<OwnedArgs> {
        const ONCE_BEFORE: usize = 2;
        let runs_script = match command.name {
            "once" => resolve(args.from(ONCE_BEFORE)).is_ok_and(calls_script),
            _ => calls_script(command),
        };
        let client = self.clients.get(conn).filter(|_| runs_script)?;
        let user = self.acl.user(&client.user)?;
        let mut carrying = OwnedArgs::copy(args);
        carrying.push(&carry(&client.user, user));
        Some(carrying)
    }

    fn note_denial(&mut self, conn: ConnId, reason: Reason, object: &[u8], user: &[u8]) {
        let Some(client) = self.clients.get(conn) else { return };
        let shown = self.line_of(client);
        let in_transaction = client.transaction.as_ref().is_some_and(|transaction| transaction.is_open());
        let context = if in_transaction { Context::Multi } else { Context::TopLevel };
        let (now, max) =
            (self.now.wall, usize::try_from(self.settings.acllog_max_len()).unwrap_or(usize::MAX));
        self.acl.log.add(reason, context, object, user, shown, now, max);
    }
}

/// True if a client waits for something that it may not ask for with the rights that it has from here on.
fn waits_for_what_it_may_not(client: &Client, rights: Option<&Rights>) -> bool {
    let Some(rights) = rights.filter(|_| !client.waits_on.is_nowhere()) else { return false };
    let Some(waits_with) = &client.waits_with else { return true };
    let args = waits_with.args();
    resolve(args).is_ok_and(|command| rights.check(command, args).is_err())
}

/// Makes a connection as it was when it was opened, as far as its user goes.
pub(crate) fn log_out(client: &mut Client, login: Login) {
    (client.user, client.rights, client.authenticated) = (login.user, login.rights, login.authenticated);
}
