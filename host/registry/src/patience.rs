//! How long a registry that is busy is waited for.
//!
//! It may say so for as long as it likes; a command waits for two minutes altogether, and asks for the same thing five times at most.

use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

/// Longest time that a command waits, all waits together.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// How often the same thing is asked for.
const ATTEMPTS_MAX: u32 = 5;

/// What is left of it.
#[derive(Debug)]
pub(super) struct Patience {
    left: Duration,
}

/// What to do with an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is not about being busy.
    Answer,
    /// Ask again after that time.
    Again(Duration),
    /// It is busy for longer than anybody waits here, for a reason that ends a sentence.
    Enough(String),
}

impl Patience {
    pub fn new() -> Self {
        Self { left: WAIT_MAX }
    }

    /// Judges the answer to the attempt of this number, the first of which is 1.
    pub fn judge(&self, status: StatusCode, headers: &HeaderMap, attempt: u32) -> Verdict {
        let asked = match status {
            StatusCode::TOO_MANY_REQUESTS => {
                // Not every registry says for how long.
                retry_after(headers, SystemTime::now()).unwrap_or(Duration::from_secs(1 << attempt.min(6)))
            }
            StatusCode::SERVICE_UNAVAILABLE => match retry_after(headers, SystemTime::now()) {
                Some(asked) => asked,
                None => return Verdict::Answer,
            },
            _ => return Verdict::Answer,
        };
        match () {
            () if attempt >= ATTEMPTS_MAX => {
                Verdict::Enough(format!("it was asked {ATTEMPTS_MAX} times: try again later"))
            }
            () if asked > self.left => Verdict::Enough(format!(
                "it wants to be asked again in {} s, which is longer than this waits: try again then",
                asked.as_secs()
            )),
            () => Verdict::Again(asked),
        }
    }

    /// Waits, and says so on stderr: second by second on a terminal, once elsewhere.
    pub fn wait(&mut self, time: Duration, registry: &str, status: StatusCode) {
        self.left = self.left.saturating_sub(time);
        let until = Instant::now() + time;
        let mut stderr = io::stderr();
        let terminal = stderr.is_terminal();
        let note = |seconds: u64| format!("{registry} is busy ({status}): trying again in {seconds} s");
        // That it cannot be shown does not matter.
        if !terminal {
            let _ = writeln!(stderr, "twitcher: {}", note(time.as_secs()));
        }
        while let Some(left) = until
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        {
            if terminal {
                let _ = write!(stderr, "\r\x1b[K{}", note(left.as_secs() + 1));
            }
            thread::sleep(left.min(Duration::from_secs(1)));
        }
        if terminal {
            let _ = write!(stderr, "\r\x1b[K");
        }
    }
}

/// In how long to ask again: a number of seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are longer than anybody waits.
        true => (!text.is_empty()).then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX))),
        false => {
            let date = httpdate::parse_http_date(text).ok()?;
            Some(date.duration_since(now).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())])
    }

    #[test]
    fn a_registry_says_when_to_ask_again_in_seconds_or_by_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (text, seconds) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(
                retry_after(&headers(text), now),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        }
    }

    #[test]
    fn patience_ends() {
        let patience = Patience::new();
        let busy = StatusCode::TOO_MANY_REQUESTS;
        let none = HeaderMap::new();
        let again = |seconds| Verdict::Again(Duration::from_secs(seconds));
        assert_eq!(patience.judge(busy, &headers("7"), 1), again(7));
        assert_eq!(patience.judge(busy, &none, 2), again(4));
        assert_eq!(
            patience.judge(StatusCode::SERVICE_UNAVAILABLE, &headers("7"), 4),
            again(7)
        );
        assert_eq!(
            patience.judge(StatusCode::SERVICE_UNAVAILABLE, &none, 1),
            Verdict::Answer
        );
        assert_eq!(patience.judge(StatusCode::OK, &headers("7"), 1), Verdict::Answer);
        for (text, attempt, words) in [("7", 5, "asked 5 times"), ("3600", 1, "in 3600 s")] {
            let verdict = patience.judge(busy, &headers(text), attempt);
            assert!(
                matches!(&verdict, Verdict::Enough(why) if why.contains(words)),
                "{verdict:?}"
            );
        }
    }
}
