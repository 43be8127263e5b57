//! An expression (CEL) that has to be true: compiled and bounded where it is read, closed where it fails.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::{Context, Env, Program, Value};
use http::HeaderName;

use crate::exchange::{Identity, Request};
use crate::problem::nearest;

/// What an expression may look at.
const NAMES: [&str; 4] = ["jwt", "consumer", "certificate", "request"];

/// What it may call; other functions are unknown, or cost what the client decides.
const FUNCTIONS: [&str; 10] =
    ["contains", "startsWith", "endsWith", "size", "string", "int", "uint", "double", "bool", "type"];

/// Characters of an expression, at most.
const LONGEST: usize = 2048;

/// An expression, compiled.
pub(in crate::policy) struct Expression {
    text: Box<str>,
    program: Program,
    env: Arc<Env>,
    /// Which of `NAMES` it looks at.
    needs: [bool; NAMES.len()],
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Expression {
    pub(in crate::policy) fn compile(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("an expression has at most {LONGEST} characters"));
        }
        let env = Env::stdlib();
        let program = env.compile(text).map_err(|why| {
            let why = why.to_string();
            format!("`{text}` is not an expression: {}", why.lines().next().unwrap_or_default().trim())
        })?;
        let mut seen = Seen::default();
        seen.visit(program.expression(), &mut Vec::new(), false)?;
        let needs = NAMES.map(|name| seen.names.contains(&name));
        Ok(Self { text: text.into(), program, env: Arc::new(env), needs })
    }

    /// Whether it looks at what only `auth` can tell.
    pub(in crate::policy) fn asks_who(&self) -> bool {
        NAMES.iter().zip(self.needs).any(|(name, needed)| needed && matches!(*name, "jwt" | "consumer"))
    }

    /// Whether it is true; `None` where it fails or is no boolean.
    pub(in crate::policy) fn holds(&self, request: &dyn Request, identity: &Identity) -> Option<bool> {
        let mut context = Context::with_env(Arc::clone(&self.env));
        for (name, _) in NAMES.iter().zip(self.needs).filter(|(_, needed)| *needed) {
            context.add_variable_from_value(*name, value(name, request, identity)?);
        }
        match self.program.execute(&context) {
            Ok(Value::Bool(held)) => Some(held),
            _ => None,
        }
    }
}

/// One of `NAMES`; a map without entries where there is no such thing.
fn value(name: &str, request: &dyn Request, identity: &Identity) -> Option<Value> {
    match name {
        "jwt" => cel::to_value(identity.claims.as_deref()?).ok(),
        "consumer" => {
            let mut consumer = identity.attributes.as_deref().cloned().unwrap_or_default();
            consumer.insert("name".to_owned(), identity.consumer.as_deref()?.into());
            cel::to_value(consumer).ok()
        }
        "certificate" => {
            let certificate = request.certificate()?;
            let fields = [("subject", &*certificate.subject), ("fingerprint", &*certificate.fingerprint)];
            Some(fields.into_iter().collect::<HashMap<_, _>>().into())
        }
        _ => Some(whole(request)),
    }
}

fn whole(request: &dyn Request) -> Value {
    let line = |name: &HeaderName| {
        let lines = request.headers().get_all(name).iter().filter_map(|line| line.to_str().ok());
        (name.as_str().to_owned(), lines.collect::<Vec<_>>().join(", "))
    };
    let headers: HashMap<String, String> = request.headers().keys().map(line).collect();
    let fields: [(&str, Value); 6] = [
        ("method", request.method().as_str().into()),
        ("host", request.host().into()),
        ("path", request.path().into()),
        ("query", request.query().unwrap_or_default().into()),
        ("client", request.client().to_string().into()),
        ("headers", headers.into()),
    ];
    fields.into_iter().collect::<HashMap<_, _>>().into()
}

/// What is found in an expression.
#[derive(Default)]
struct Seen {
    names: Vec<&'static str>,
}

impl Seen {
    /// Refuses unknown names and functions, and loops within loops: their cost would be the client's to choose.
    fn visit(&mut self, node: &IdedExpr, own: &mut Vec<String>, looping: bool) -> Result<(), String> {
        match &node.expr {
            Expr::Ident(name) if own.contains(name) => {}
            Expr::Ident(name) => {
                let known = NAMES.iter().find(|known| *known == name);
                self.names.push(known.ok_or_else(|| unknown("name", name, &NAMES))?);
            }
            Expr::Call(call) => {
                let plain = call.func_name.starts_with(|b: char| b.is_ascii_alphabetic());
                if plain && !FUNCTIONS.contains(&call.func_name.as_str()) {
                    return Err(unknown("function", &call.func_name, &FUNCTIONS));
                }
                for part in call.target.as_deref().into_iter().chain(&call.args) {
                    self.visit(part, own, looping)?;
                }
            }
            Expr::Comprehension(_) if looping => return Err("a loop within a loop is not taken".to_owned()),
            Expr::Comprehension(all) => {
                self.visit(&all.iter_range, own, looping)?;
                let before = own.len();
                own.extend([all.iter_var.clone(), all.accu_var.clone()]);
                own.extend(all.iter_var2.clone());
                for part in [&all.accu_init, &all.loop_cond, &all.loop_step, &all.result] {
                    self.visit(part, own, true)?;
                }
                own.truncate(before);
            }
            Expr::Select(select) => self.visit(&select.operand, own, looping)?,
            Expr::List(list) => {
                for part in &list.elements {
                    self.visit(part, own, looping)?;
                }
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.visit(&entry.key, own, looping)?;
                        self.visit(&entry.value, own, looping)?;
                    }
                }
            }
            Expr::Literal(_) => {}
            _ => return Err("takes comparisons, calls, lists and maps only".to_owned()),
        }
        Ok(())
    }
}

fn unknown(kind: &str, word: &str, known: &[&str]) -> String {
    let near = nearest(word, known.iter().copied());
    let hint = near.map_or_else(|| known.join(", "), |near| format!("did you mean `{near}`?"));
    format!("unknown {kind} `{word}`: {hint}")
}
