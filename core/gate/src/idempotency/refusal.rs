//! Why a request with a key gets no reply of an upstream, and how a client is told.

/// Why a request with a key is not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The key was used for another request.
    OtherRequest,
    /// The first request with this key is under way.
    UnderWay,
    /// Whether the first was carried out is not known; it is not sent again.
    Unknown,
    /// The first was carried out, and its reply was too long to be kept.
    Long,
    /// The store did not answer in time, so this request was not sent. What became of an earlier one is not known.
    NoStore,
    /// The upstream was called, and the store did not take its reply in time.
    NotKept,
}

impl Refusal {
    pub fn status(self) -> u16 {
        match self {
            Refusal::OtherRequest => 422,
            Refusal::UnderWay | Refusal::Unknown | Refusal::Long => 409,
            Refusal::NoStore => 503,
            Refusal::NotKept => 504,
        }
    }

    /// The value of `Idempotency-Status`, by which a client tells refusals of one status apart.
    pub fn word(self) -> &'static str {
        match self {
            Refusal::OtherRequest => "other-request",
            Refusal::UnderWay => "under-way",
            Refusal::Unknown | Refusal::NotKept => "unknown",
            Refusal::Long => "not-kept",
            Refusal::NoStore => "unavailable",
        }
    }

    /// What the client is told.
    pub fn text(self) -> &'static str {
        match self {
            Refusal::OtherRequest => "this Idempotency-Key was used for another request",
            Refusal::UnderWay => "the first request with this Idempotency-Key is under way",
            Refusal::Unknown => "whether the request with this Idempotency-Key was carried out is not known",
            Refusal::Long => {
                "the request with this Idempotency-Key was carried out, and its reply was not kept"
            }
            Refusal::NoStore => "the store did not answer, so the request was not sent",
            Refusal::NotKept => "the request was sent, and its reply could not be kept in time",
        }
    }

    /// True if the same request may be sent again at once: it will be carried out, or answered.
    pub fn may_repeat(self) -> bool {
        matches!(self, Refusal::UnderWay | Refusal::NoStore)
    }
}
