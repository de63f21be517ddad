//! What a native application does for its user at Kratos' self-service API: second factors set up and used, codes asked
//! for and given back; and what only the admin API tells, such as the messages that wait.

use super::{Client, Login};
use crate::encode::query_value;
use anyhow::Context;
use serde_json::{Value, json};

/// Something that a user began and can only end with a code that was sent.
#[derive(Debug, Clone)]
pub struct Pending {
    pub flow: String,
    pub code: String,
}

/// A form that is being filled in.
#[derive(Debug, Clone)]
struct Form {
    id: String,
    body: Value,
}

impl Form {
    fn read(body: Value) -> anyhow::Result<Self> {
        let id = body["id"].as_str().with_context(|| format!("no id in a form: {body}"))?.to_owned();
        Ok(Self { id, body })
    }

    /// The text of the node with this id.
    fn shown(&self, node: &str) -> anyhow::Result<String> {
        let nodes = self.body["ui"]["nodes"].as_array().context("a form without nodes")?;
        let found = nodes.iter().map(|node| &node["attributes"]).find(|attributes| attributes["id"] == node);
        let text = found.and_then(|attributes| attributes["text"]["text"].as_str());
        Ok(text.with_context(|| format!("the form does not show {node}"))?.to_owned())
    }
}

/// The header that says whose session it is.
fn token(session_token: &str) -> [(&'static str, &str); 1] {
    [("X-Session-Token", session_token)]
}

impl Client {
    /// Creates an identity with a password and with a login at another provider, as an operator imports people.
    pub fn import_identity(
        &self,
        email: &str,
        password: &str,
        provider: &str,
        subject: &str,
    ) -> anyhow::Result<String> {
        let body = json!({
            "schema_id": "default",
            "traits": {"email": email},
            "credentials": {
                "password": {"config": {"password": password}},
                "oidc": {"config": {"providers": [{"provider": provider, "subject": subject}]}},
            },
        });
        let answer = self.admin.post("/admin/identities", &body)?.expect(201)?;
        Ok(answer["id"].as_str().context("no id in the answer")?.to_owned())
    }

    /// Reads an identity with what it has at other providers.
    pub fn identity_with_providers(&self, id: &str) -> anyhow::Result<Value> {
        self.admin.get(&format!("/admin/identities/{id}?include_credential=oidc"), &[])?.expect(200)
    }

    fn settings(&self, session_token: &str) -> anyhow::Result<Form> {
        Form::read(self.public.get("/self-service/settings/api", &token(session_token))?.expect(200)?)
    }

    fn save_settings(&self, session_token: &str, flow: &str, body: &Value) -> anyhow::Result<Form> {
        let path = format!("/self-service/settings?flow={flow}");
        Form::read(self.public.post_with(&path, &token(session_token), body)?.expect(200)?)
    }

    /// Sets up one-time passwords: Kratos gives a secret in base32, the user proves to have it.
    pub fn set_up_totp(
        &self,
        session_token: &str,
        code: impl Fn(&str) -> anyhow::Result<String>,
    ) -> anyhow::Result<String> {
        let form = self.settings(session_token)?;
        let secret = form.shown("totp_secret_key")?;
        let body = json!({"method": "totp", "totp_code": code(&secret)?});
        self.save_settings(session_token, &form.id, &body)?;
        Ok(secret)
    }

    /// Sets up codes of which each replaces a second factor once; returns them.
    pub fn set_up_lookup_secrets(&self, session_token: &str) -> anyhow::Result<Vec<String>> {
        let form = self.settings(session_token)?;
        let made = json!({"method": "lookup_secret", "lookup_secret_regenerate": true});
        let made = self.save_settings(session_token, &form.id, &made)?;
        let secrets = made.shown("lookup_secret_codes")?.split(", ").map(str::to_owned).collect();
        let kept = json!({"method": "lookup_secret", "lookup_secret_confirm": true});
        self.save_settings(session_token, &form.id, &kept)?;
        Ok(secrets)
    }

    /// Logs in with a second factor, on top of a session that a password opened.
    pub fn second_factor(&self, session_token: &str, answer: &Value) -> anyhow::Result<()> {
        let form = self.public.get("/self-service/login/api?aal=aal2", &token(session_token))?.expect(200)?;
        let path = format!("/self-service/login?flow={}", Form::read(form)?.id);
        self.public.post_with(&path, &token(session_token), answer)?.expect(200)?;
        let session = self.whoami(session_token)?;
        let level = &session["authenticator_assurance_level"];
        anyhow::ensure!(level == "aal2", "the session is {level} after a second factor");
        Ok(())
    }

    /// Asks for a code to log in with, and takes it from the message that waits.
    pub fn begin_code_login(&self, email: &str) -> anyhow::Result<Pending> {
        let flow = Form::read(self.public.get("/self-service/login/api", &[])?.expect(200)?)?.id;
        let body = json!({"method": "code", "identifier": email});
        let answer = self.public.post(&format!("/self-service/login?flow={flow}"), &body)?;
        // The form is not complete, so this is a 400 in most releases.
        anyhow::ensure!(answer.body.contains("\"sent_email\""), "no code was sent: {} {}", answer.status, answer.body);
        Ok(Pending { code: self.code_sent(email, "login_code_valid")?, flow })
    }

    /// Logs in with that code.
    pub fn end_code_login(&self, email: &str, pending: &Pending) -> anyhow::Result<Login> {
        let body = json!({"method": "code", "identifier": email, "code": pending.code});
        let answer = self.public.post(&format!("/self-service/login?flow={}", pending.flow), &body)?.expect(200)?;
        let text = |value: &Value| -> anyhow::Result<String> {
            Ok(value.as_str().context("an answer to a login lacks something")?.to_owned())
        };
        Ok(Login {
            session_token: text(&answer["session_token"])?,
            identity_id: text(&answer["session"]["identity"]["id"])?,
        })
    }

    /// Asks for a code that verifies an address.
    pub fn begin_verification(&self, email: &str) -> anyhow::Result<Pending> {
        let flow = Form::read(self.public.get("/self-service/verification/api", &[])?.expect(200)?)?.id;
        let body = json!({"method": "code", "email": email});
        let answer = self.public.post(&format!("/self-service/verification?flow={flow}"), &body)?.expect(200)?;
        anyhow::ensure!(answer["state"] == "sent_email", "no code was sent: {answer}");
        Ok(Pending { code: self.code_sent(email, "verification_code_valid")?, flow })
    }

    /// Verifies the address with that code.
    pub fn end_verification(&self, pending: &Pending) -> anyhow::Result<()> {
        let body = json!({"method": "code", "code": pending.code});
        let path = format!("/self-service/verification?flow={}", pending.flow);
        let answer = self.public.post(&path, &body)?.expect(200)?;
        anyhow::ensure!(answer["state"] == "passed_challenge", "the code is not taken: {answer}");
        Ok(())
    }

    /// Has an operator make a code by which somebody comes back in.
    pub fn begin_recovery(&self, identity: &str) -> anyhow::Result<Pending> {
        let answer = self.admin.post("/admin/recovery/code", &json!({"identity_id": identity}))?.expect(201)?;
        let link = answer["recovery_link"].as_str().context("no link in the answer")?;
        let flow = link.split(['?', '&']).find_map(|part| part.strip_prefix("flow=")).context("no flow in the link")?;
        let code = answer["recovery_code"].as_str().context("no code in the answer")?;
        Ok(Pending { flow: flow.to_owned(), code: code.to_owned() })
    }

    /// Comes back in with that code: the browser is sent on to choose a new password.
    pub fn end_recovery(&self, pending: &Pending) -> anyhow::Result<()> {
        let body = json!({"method": "code", "code": pending.code});
        let answer = self.public.post(&format!("/self-service/recovery?flow={}", pending.flow), &body)?;
        // 200 would be the same form again: the code was not taken.
        answer.expect(422).map(drop)
    }

    /// What waits to be sent to somebody.
    pub fn queued_messages(&self, recipient: &str) -> anyhow::Result<Vec<Value>> {
        let path = format!("/admin/courier/messages?status=queued&recipient={}", query_value(recipient));
        match self.admin.get(&path, &[])?.expect(200)? {
            Value::Array(messages) => Ok(messages),
            other => anyhow::bail!("Kratos answered with no list of messages: {other}"),
        }
    }

    /// The code in the newest message of this kind that waits for somebody. Bodies are shown with `--dev` only.
    fn code_sent(&self, recipient: &str, kind: &str) -> anyhow::Result<String> {
        let messages = self.queued_messages(recipient)?;
        let of_kind = messages.iter().filter(|message| message["template_type"] == kind);
        let message = of_kind.max_by_key(|message| message["created_at"].as_str().unwrap_or_default().to_owned());
        let body = message.and_then(|message| message["body"].as_str()).with_context(|| format!("no {kind} waits"))?;
        let code = body.split(|letter: char| !letter.is_ascii_digit()).find(|digits| digits.len() == 6);
        Ok(code.context("no code in the message")?.to_owned())
    }
}
