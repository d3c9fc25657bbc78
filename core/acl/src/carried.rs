//! Rights that travel with a script, as the last argument of its call: each replica may know users of another moment, and all
//! must allow the script the same.
//!
//! Only what has passed the checks of a client's node has such an argument behind its own; a client that writes one by itself
//! takes rights from its own script, and the one that its node adds stands behind it.

use skep_base::Args;
use skep_command::CommandSpec;

use crate::rights::{Denied, Rights};
use crate::rule::RuleError;
use crate::user::User;

/// Begins such an argument.
const MARK: &[u8] = b"\0skep-rights\n";

/// The rights of a script's user.
pub struct CarriedRights {
    user: Vec<u8>,
    rights: Rights,
}

/// An argument that begins like rights and holds none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotRights;

/// The argument that carries a user's rights. No name and no rule has a line break in it.
pub fn carry(name: &[u8], user: &User) -> Vec<u8> {
    let mut lines = vec![name.to_vec()];
    lines.extend(user.rules());
    [MARK, &lines.join(&b'\n')].concat()
}

/// A call as its client sent it.
pub fn without_rights(args: Args<'_>) -> Args<'_> {
    match args.iter().next_back().is_some_and(|last| last.starts_with(MARK)) {
        true => args.up_to(args.len() - 1),
        false => args,
    }
}

impl CarriedRights {
    /// The arguments of a call without the rights that it carries, and these.
    ///
    /// # Errors
    /// [`NotRights`]; the script must not run.
    pub fn split(args: Args<'_>) -> Result<(Args<'_>, Option<CarriedRights>), NotRights> {
        let Some(carried) = args.iter().next_back().and_then(|last| last.strip_prefix(MARK)) else {
            return Ok((args, None));
        };
        let mut lines = carried.split(|byte| *byte == b'\n');
        let user = lines.next().unwrap_or_default().to_vec();
        let known = User::of_rules(lines).map_err(|_: RuleError| NotRights)?;
        let carried = CarriedRights { user, rights: Rights::of(&known) };
        Ok((args.up_to(args.len() - 1), Some(carried)))
    }

    /// Whether the script may run a command.
    ///
    /// # Errors
    /// What it may not, and why in Redis's words.
    pub fn check(&self, command: &'static CommandSpec, args: Args<'_>) -> Result<(), (Denied, String)> {
        self.rights.check(command, args).map_err(|denied| (denied, denied.brief(&self.user, command)))
    }

    /// Whose rights they are.
    pub fn user(&self) -> &[u8] {
        &self.user
    }

    /// Whether it may call the command at all, if that has not as many arguments as it should.
    pub fn may_call(&self, command: &'static CommandSpec, args: Args<'_>) -> bool {
        !matches!(self.rights.check(command, args), Err(Denied::Command))
    }
}

#[cfg(test)]
mod tests {
    use skep_base::args::OwnedArgs;
    use skep_command::resolve;

    use super::*;
    use crate::rule::Rule;

    #[test]
    fn rights_arrive_as_they_were_sent() {
        let mut user = User::default();
        for rule in ["on", ">p", "~a*", "+@read", "-mget", "(+set ~b)"] {
            user.apply(&Rule::parse(rule.as_bytes()).unwrap().unwrap()).unwrap();
        }
        let mut call = OwnedArgs::collect([&b"EVAL"[..], b"return 1", b"0"]);
        let (plain, none) = CarriedRights::split(call.args()).unwrap();
        assert!(plain.len() == 3 && none.is_none());
        call.push(&carry(b"ann", &user));
        let (rest, carried) = CarriedRights::split(call.args()).unwrap();
        let carried = carried.unwrap();
        assert_eq!(rest.len(), 3);
        let told = |text: &str| {
            let args = OwnedArgs::collect(text.split(' ').map(str::as_bytes));
            carried.check(resolve(args.args()).unwrap(), args.args()).err().map(|(_, why)| why)
        };
        assert_eq!(told("GET a1"), None);
        assert_eq!(told("SET b 1"), None);
        assert_eq!(told("GET c").as_deref(), Some("No permissions to access a key"));
        assert_eq!(told("MGET a").as_deref(), Some("User ann has no permissions to run the 'mget' command"));
    }

    #[test]
    fn what_is_no_rights_is_not_passed_over() {
        let call = OwnedArgs::collect([&b"EVAL"[..], b"return 1", b"0", b"\0skep-rights\nann\nnonsense"]);
        assert!(CarriedRights::split(call.args()).is_err());
    }
}
