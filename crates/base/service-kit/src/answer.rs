//! What a daemon's command answers on standard output: words for a person, or exactly one JSON object.

use std::io::Write as _;

use serde_json::{Map, Value, json};

use crate::Trouble;

/// What was done.
#[derive(Debug, Clone)]
pub struct Answer {
    words: String,
    /// The same for programs.
    members: Map<String, Value>,
}

impl Answer {
    /// In words, and what of them a program wants to know, an object.
    pub fn new(words: impl Into<String>, members: Value) -> Self {
        let members = match members {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        let words = words.into();
        Self { words, members }
    }

    /// One text that is itself what was asked for, such as an approval.
    pub fn of(name: &str, text: String) -> Self {
        let members = Map::from_iter([(name.to_owned(), Value::from(text.as_str()))]);
        Self {
            words: text,
            members,
        }
    }

    /// Tells it. A reader that went away is no trouble.
    pub fn tell(self, json: bool) {
        let text = match json {
            true => self.object().to_string(),
            false => self.words,
        };
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    fn object(self) -> Value {
        let mut object = self.members;
        object.insert("schema".to_owned(), "natsuin.answer/1".into());
        object.insert("ok".to_owned(), true.into());
        object.insert("answer".to_owned(), self.words.into());
        Value::Object(object)
    }
}

impl From<String> for Answer {
    fn from(words: String) -> Self {
        Self::new(words, Value::Null)
    }
}

/// Tells a program why nothing was done, in the form that `natsuin` has.
pub(crate) fn tell_trouble(trouble: &Trouble) {
    let Trouble { code, what, remedy } = trouble;
    let object = json!({"schema": "natsuin.error/1", "code": code, "what": what, "do": remedy});
    let _ = writeln!(std::io::stdout(), "{object}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_object_with_its_words() {
        let answer = Answer::new("3 keys", json!({"keys": 3})).object();
        let expected =
            json!({"schema": "natsuin.answer/1", "ok": true, "answer": "3 keys", "keys": 3});
        assert_eq!(answer, expected);
        let approval = Answer::of("approval", "a.b.c".to_owned()).object();
        assert_eq!(approval["approval"], "a.b.c");
        let plain = Answer::from("done".to_owned()).object();
        assert_eq!(plain["answer"], "done");
    }
}
