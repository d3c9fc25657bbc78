//! What the engine and the native functions share: who runs commands, and what a script may have set.

use skep_base::Span;
use skep_resp::Protocol;

use crate::cjson::Config;
use crate::functions::Registering;
use crate::host::Host;

/// Bytes of each buffer that the next run finds.
const ROOM_KEPT: usize = 256 << 10;

/// Lives at one address for as long as its interpreter; native functions find it through the allocator's datum.
pub(crate) struct Shared {
    /// Who carries out `redis.call`; while a script runs, and not while a library is loaded.
    pub host: Option<*mut (dyn Host + 'static)>,
    /// `FUNCTION LOAD` is going on, and these functions were registered.
    pub registering: Option<Registering>,
    /// What `redis.setresp` chose.
    pub protocol: Protocol,
    /// Settings of `cjson` and of what `cjson.new` made, by instance.
    pub cjson: Vec<Config>,
    /// The work that the run began with; `os.clock` tells of it.
    pub work: isize,
    /// The memory of the run, in bytes.
    pub memory: usize,
    /// Room for commands and replies.
    pub command: Vec<u8>,
    pub spans: Vec<Span>,
    pub reply: Vec<u8>,
}

impl Shared {
    pub fn new() -> Shared {
        Shared {
            host: None,
            registering: None,
            protocol: Protocol::Resp2,
            cjson: vec![Config::default()],
            work: 0,
            memory: 0,
            command: Vec::new(),
            spans: Vec::new(),
            reply: Vec::new(),
        }
    }

    /// Forgets what another script has set: a run depends on nothing that ran before.
    pub fn begin(&mut self, work: isize, memory: usize) {
        self.protocol = Protocol::Resp2;
        self.cjson.clear();
        self.cjson.push(Config::default());
        (self.work, self.memory) = (work, memory);
    }

    /// Lets go of the room that a large command or reply has taken.
    pub fn end(&mut self) {
        self.command.clear();
        self.command.shrink_to(ROOM_KEPT);
        self.spans.clear();
        self.spans.shrink_to(ROOM_KEPT / size_of::<Span>());
        self.reply.clear();
        self.reply.shrink_to(ROOM_KEPT);
        self.cjson.truncate(1);
        self.cjson.shrink_to(ROOM_KEPT / size_of::<Config>());
    }
}
