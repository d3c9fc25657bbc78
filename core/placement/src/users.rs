//! Users in the meta state: changed by the rules of `ACL SETUSER`, alike on all nodes.
//!
//! What a rule about commands means is not looked at here, since nodes of different releases may know different commands; who
//! asks for a change has checked that they exist.

use std::sync::Arc;

use skep_acl::{DEFAULT_USER, Rule, User, Users, is_valid_name};
use skep_base::varint::{self, Malformed, Reader};

use crate::record;
use crate::state::MetaState;

/// Most users. Each node keeps what each may do, and the state goes to other nodes whole.
pub const USERS_MAX: usize = 1_000;
/// Most bytes of all users' names and rules.
pub const USERS_BYTES_MAX: usize = 4 << 20;

impl MetaState {
    pub(crate) fn set_user(
        &mut self,
        name: Vec<u8>,
        first: &[Vec<u8>],
        rules: &[Vec<u8>],
    ) -> Result<(), String> {
        if !is_valid_name(&name) {
            return Err("Usernames can't contain spaces or null characters".to_owned());
        }
        let known = self.users.get(&name);
        if known.is_none() && self.users.len() >= USERS_MAX {
            return Err(format!("there are {USERS_MAX} users, which is the limit"));
        }
        let mut user = match known {
            Some(user) => user.clone(),
            None => User::of_rules(first.iter().map(Vec::as_slice)).map_err(|cause| cause.to_string())?,
        };
        for text in rules {
            let told =
                |cause| format!("Error in ACL SETUSER modifier '{}': {cause}", String::from_utf8_lossy(text));
            if let Some(rule) = Rule::parse(text).map_err(told)? {
                user.apply_again(&rule);
            }
        }
        let others: usize = self.users.iter().filter(|(other, _)| **other != name).map(bytes).sum();
        let with = others + bytes((&name, &user));
        if with > USERS_BYTES_MAX {
            return Err(format!("the rules of all users would be {with} bytes, limit is {USERS_BYTES_MAX}"));
        }
        Arc::make_mut(&mut self.users).insert(name, user);
        Ok(())
    }

    /// Users that are not there are passed over, so that the same can be asked twice.
    pub(crate) fn del_users(&mut self, names: &[Vec<u8>]) -> Result<(), String> {
        if names.iter().any(|name| name == DEFAULT_USER) {
            return Err("The 'default' user cannot be removed".to_owned());
        }
        let users = Arc::make_mut(&mut self.users);
        names.iter().for_each(|name| drop(users.remove(name)));
        Ok(())
    }
}

fn bytes((name, user): (&Vec<u8>, &User)) -> usize {
    name.len() + user.bytes()
}

pub(crate) fn encode(users: &Users, out: &mut Vec<u8>) {
    varint::put(out, users.len() as u64);
    for (name, user) in users {
        varint::put_bytes(out, name);
        record::put_texts(out, &user.rules());
    }
}

pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Users, Malformed> {
    let mut users = Users::new();
    for _ in 0..input.count(2)? {
        let name = input.bytes()?.to_vec();
        let rules = record::texts(input)?;
        match User::of_rules(rules.iter().map(Vec::as_slice)) {
            Ok(user) if is_valid_name(&name) => drop(users.insert(name, user)),
            _ => return input.malformed("the rules of a user"),
        }
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MetaCommand;

    fn set(state: &mut MetaState, name: &str, rules: &[&str]) -> Result<(), String> {
        let texts = |rules: &[&str]| rules.iter().map(|rule| rule.as_bytes().to_vec()).collect();
        let command =
            MetaCommand::SetUser { name: name.into(), first: texts(&["nopass"]), rules: texts(rules) };
        assert_eq!(MetaCommand::decode(&command.encode()).as_ref(), Ok(&command));
        state.apply(command)
    }

    #[test]
    fn users_are_made_changed_and_forgotten_and_survive_in_the_checkpoint() {
        let mut state = MetaState::founded();
        set(&mut state, "ann", &["on", "~a*", "+get"]).unwrap();
        set(&mut state, "ann", &["+@write", "(~b +config|get)"]).unwrap();
        set(&mut state, "bob", &[]).unwrap();
        let line = |state: &MetaState, name: &[u8]| String::from_utf8(state.users[name].line()).unwrap();
        let ann = "on nopass sanitize-payload ~a* resetchannels -@all +get +@write (~b resetchannels -@all +config|get)";
        assert_eq!(line(&state, b"ann"), ann);
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        assert_eq!(MetaState::decode(&bytes).unwrap(), state);
        assert!((0..bytes.len()).all(|cut| MetaState::decode(&bytes[..cut]).is_err()));

        let command = MetaCommand::DelUsers { names: vec![b"ann".to_vec(), b"nobody".to_vec()] };
        assert_eq!(MetaCommand::decode(&command.encode()).as_ref(), Ok(&command));
        state.apply(command.clone()).unwrap();
        state.apply(command).unwrap();
        assert_eq!(state.users.keys().collect::<Vec<_>>(), [b"bob"]);
        state.assert_invariants();
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let mut state = MetaState::founded();
        set(&mut state, "bob", &[]).unwrap();
        let before = state.clone();
        assert!(set(&mut state, "a b", &[]).unwrap_err().contains("spaces"));
        assert!(
            set(&mut state, "bob", &["on", "nonsense"]).unwrap_err().contains("'nonsense': Syntax error")
        );
        let long = format!("~{}", "x".repeat(USERS_BYTES_MAX));
        assert!(set(&mut state, "bob", &["on", &long]).unwrap_err().contains("limit is 4194304"));
        let default = MetaCommand::DelUsers { names: vec![b"bob".to_vec(), b"default".to_vec()] };
        assert_eq!(state.apply(default).unwrap_err(), "The 'default' user cannot be removed");
        assert_eq!(state, before);
    }

    #[test]
    fn a_state_of_the_release_before_users_is_read() {
        let mut bytes = Vec::new();
        MetaState::founded().encode(&mut bytes);
        bytes[0] = 2;
        // No users, and no versions of the gateway.
        bytes.truncate(bytes.len() - 2);
        assert_eq!(MetaState::decode(&bytes).unwrap(), MetaState::founded());
    }
}
