//! Scripts that `ONCE` runs: what a repeat of them is.

use skep_acl::{Rule, User, carry};
use skep_base::args::OwnedArgs;
use skep_base::{Millis, Rng};
use skep_command::resolve;
use skep_keyspace::scripts::Sha;
use skep_keyspace::{Keyspace, WriteCx, handler_of};
use skep_resp::{Protocol, Reply};
use skep_script::Runner;

/// Applies a command that ends with what `user` may do.
fn apply(keyspace: &mut Keyspace, words: &[&str], user: &User) -> String {
    let mut args = OwnedArgs::collect(words.iter().map(|word| word.as_bytes()));
    args.push(&carry(b"ann", user));
    run(keyspace, &args)
}

fn run(keyspace: &mut Keyspace, args: &OwnedArgs) -> String {
    let now = keyspace.advance(Millis(1_000));
    let handler = handler_of(resolve(args.args()).expect("a command")).expect("of the keyspace");
    let (mut rng, mut bytes) = (Rng::new(1), Vec::new());
    let mut cx = WriteCx { keyspace, db: 0, now, rng: &mut rng };
    handler.write(&mut cx, args.args(), &mut Reply::new(&mut bytes, Protocol::Resp2));
    bytes.escape_ascii().to_string()
}

fn user(rules: &[&str]) -> User {
    let mut user = User::default();
    for rule in rules {
        let rule = Rule::parse(rule.as_bytes()).expect("a rule").expect("one that is not empty");
        user.apply(&rule).expect("a rule that fits");
    }
    user
}

#[test]
fn a_repeat_is_one_whatever_its_user_may_do_by_then() {
    let mut keyspace = Keyspace::default();
    keyspace.set_interpreter(Box::new(Runner::default()));
    let (before, after) = (user(&["on", "~*", "+@all"]), user(&["on", "~*", "+@all", "-get"]));
    let call = ["ONCE", "token", "EVAL", "return redis.call('incr', KEYS[1])", "1", "k"];
    assert_eq!(apply(&mut keyspace, &call, &before), ":1\\r\\n");
    assert_eq!(apply(&mut keyspace, &call, &before), ":1\\r\\n");
    assert_eq!(apply(&mut keyspace, &call, &after), ":1\\r\\n");
    let other = ["ONCE", "token", "EVAL", "return redis.call('incr', KEYS[1])", "1", "j"];
    assert_eq!(apply(&mut keyspace, &other, &before), "-ERR token was used for another command\\r\\n");
}

#[test]
fn a_call_of_a_script_or_function_that_is_not_known_leaves_the_token_unused() {
    let mut keyspace = Keyspace::default();
    keyspace.set_interpreter(Box::new(Runner::default()));
    let all = user(&["on", "~*", "+@all"]);
    let source = "return redis.call('incr', KEYS[1])";
    let name = Sha::of(source.as_bytes()).to_string();
    let by_name = ["ONCE", "token", "EVALSHA", &name, "1", "k"];
    assert_eq!(apply(&mut keyspace, &by_name, &all), "-NOSCRIPT No matching script. Please use EVAL.\\r\\n");
    assert_eq!(apply(&mut keyspace, &["ONCE", "token", "EVAL", source, "1", "k"], &all), ":1\\r\\n");
    let other = ["ONCE", "other", "EVALSHA", &name, "1", "k"];
    for turn in 1..=2 {
        assert_eq!(apply(&mut keyspace, &other, &all), ":2\\r\\n", "turn {turn}");
    }
    let function = ["ONCE", "third", "FCALL", "add", "1", "k"];
    assert_eq!(apply(&mut keyspace, &function, &all), "-ERR Function not found\\r\\n");
    let library =
        "#!lua name=l\nredis.register_function('add', function(k) return redis.call('incr', k[1]) end)";
    let load = OwnedArgs::collect([&b"FUNCTION"[..], b"LOAD", library.as_bytes()]);
    assert_eq!(run(&mut keyspace, &load), "$1\\r\\nl\\r\\n");
    for turn in 1..=2 {
        assert_eq!(apply(&mut keyspace, &function, &all), ":3\\r\\n", "turn {turn}");
    }
}
