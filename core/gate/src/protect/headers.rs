//! RateLimit headers (draft-ietf-httpapi-ratelimit-headers-10): what a caller may still ask for.

use super::rate::Verdict;
use crate::config::protect::Limit;

/// The value of `RateLimit-Policy` for one limit: `"per-client";q=100;w=60`.
pub fn policy(name: &str, limit: &Limit) -> String {
    format!("\"{name}\";q={};w={}", limit.requests, limit.per.0.div_ceil(1_000_000))
}

/// The value of `RateLimit`: `"per-client";r=17;t=3`.
pub fn state(name: &str, verdict: Verdict) -> String {
    format!("\"{name}\";r={};t={}", verdict.remaining, verdict.reset.0.div_ceil(1_000_000))
}

/// The value of `Retry-After`, in whole seconds, at least 1.
pub fn retry_after(wait: skep_base::Micros) -> String {
    wait.0.div_ceil(1_000_000).max(1).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::Micros;

    #[test]
    fn headers_are_structured_fields() {
        let limit = Limit { requests: 100, per: Micros::from_secs(60), ..Limit::default() };
        assert_eq!(policy("per-client", &limit), "\"per-client\";q=100;w=60");
        let verdict = Verdict { passes: true, remaining: 17, wait: Micros(0), reset: Micros(2_000_001) };
        assert_eq!(state("per-client", verdict), "\"per-client\";r=17;t=3");
        assert_eq!(retry_after(Micros(1)), "1");
        assert_eq!(retry_after(Micros(1_000_001)), "2");
    }
}
