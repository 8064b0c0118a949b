//! What is asked of L7 policies and rules.

use alloc::{string::String, vec::Vec};

use krater_amphora_api::PoolId;

use super::{PoolRef, Set};
use crate::{
    model::{
        CompareType, Description, L7Action, L7ActionType, L7RuleType, Name, RedirectCode,
        RedirectUrl, Tags,
    },
    refusal::Refusal,
};

/// An L7 policy to create. Rules only come with a whole tree, and a [`PoolRef::New`] as well.
#[derive(Clone, Debug, PartialEq)]
pub struct NewL7Policy {
    /// Its name.
    pub name: Name,
    /// Its description.
    pub description: Description,
    /// Whether it is evaluated.
    pub admin_state_up: bool,
    /// What it does, reconciled.
    pub action: L7Action<PoolRef>,
    /// Its position, from 1; `None` is the end.
    pub position: Option<u32>,
    /// Its tags.
    pub tags: Tags,
    /// Its rules.
    pub rules: Vec<NewL7Rule>,
}

/// Changes of an L7 policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct L7PolicyUpdate {
    /// Name.
    pub name: Set<Name>,
    /// Description.
    pub description: Set<Description>,
    /// Whether it is evaluated.
    pub admin_state_up: Set<bool>,
    /// What it does.
    pub redirect: Redirect<PoolId>,
    /// Its position, from 1; null is the end.
    pub position: Set<Option<u32>>,
    /// Tags.
    pub tags: Set<Tags>,
}

/// What a request says of an action and its target. `P` is how it names a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect<P> {
    /// The action itself.
    pub action: Set<L7ActionType>,
    /// Where to.
    pub url: Set<Option<RedirectUrl>>,
    /// What goes before the path.
    pub prefix: Set<Option<RedirectUrl>>,
    /// The other pool.
    pub pool: Set<Option<P>>,
    /// How a client is redirected.
    pub http_code: Set<Option<RedirectCode>>,
}

impl<P> Default for Redirect<P> {
    fn default() -> Self {
        Self {
            action: None,
            url: None,
            prefix: None,
            pool: None,
            http_code: None,
        }
    }
}

impl<P> Redirect<P> {
    /// The action of a new policy.
    ///
    /// # Errors
    /// [`Refusal::InvalidL7Policy`] when the fields do not make one.
    pub fn settle(self) -> Result<L7Action<P>, Refusal> {
        match self.target()? {
            Target::Action(action) => Ok(action),
            Target::Unsaid { .. } => Err(Refusal::UnknownL7Action("None".into())),
        }
    }

    /// The action of a policy that did `present` before.
    ///
    /// # Errors
    /// [`Refusal::InvalidL7Policy`] when the fields do not make one.
    pub fn change(self, present: L7Action<P>) -> Result<L7Action<P>, Refusal> {
        let cleared = [
            (L7ActionType::RedirectToUrl, matches!(self.url, Some(None))),
            (
                L7ActionType::RedirectPrefix,
                matches!(self.prefix, Some(None)),
            ),
            (
                L7ActionType::RedirectToPool,
                matches!(self.pool, Some(None)),
            ),
        ];
        let http_code = match self.target()? {
            Target::Action(action) => return Ok(action),
            Target::Unsaid { http_code } => http_code,
        };
        // What is cleared must make room for something, or the policy would be left without a target.
        let kind = present.action_type();
        if cleared.contains(&(kind, true)) {
            return Err(lacks_target(kind));
        }
        let code = |present| http_code.map_or(present, Option::unwrap_or_default);
        Ok(match present {
            L7Action::RedirectToUrl { url, code: before } => L7Action::RedirectToUrl {
                url,
                code: code(before),
            },
            L7Action::RedirectPrefix {
                prefix,
                code: before,
            } => L7Action::RedirectPrefix {
                prefix,
                code: code(before),
            },
            // A code means nothing to the others and is dropped, as beside a pool (reference 10.3, step 3).
            other => other,
        })
    }

    /// The steps of reference 10.3: the action drops what it has no use for, and what remains decides what it is.
    fn target(self) -> Result<Target<P>, Refusal> {
        let Self {
            action, http_code, ..
        } = self;
        let (mut url, prefix, mut pool) = (
            self.url.flatten(),
            self.prefix.flatten(),
            self.pool.flatten(),
        );
        if let Some(action) = action {
            let lacking = match action {
                L7ActionType::Reject => false,
                L7ActionType::RedirectToUrl => url.is_none(),
                L7ActionType::RedirectPrefix => prefix.is_none(),
                L7ActionType::RedirectToPool => pool.is_none(),
            };
            if lacking {
                return Err(lacks_target(action));
            }
            if matches!(action, L7ActionType::Reject | L7ActionType::RedirectToPool) {
                url = None;
            }
            if matches!(action, L7ActionType::Reject | L7ActionType::RedirectToUrl) {
                pool = None;
            }
        }
        let code = http_code.flatten().unwrap_or_default();
        Ok(match (pool, url, prefix) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                return Err(Refusal::InvalidL7Policy(
                    "Cannot specify redirect_pool_id and redirect_url or redirect_prefix at the same time".into(),
                ));
            }
            (Some(pool), None, None) => Target::Action(L7Action::RedirectToPool(pool)),
            (None, Some(url), _) => Target::Action(L7Action::RedirectToUrl { url, code }),
            (None, None, Some(prefix)) => Target::Action(L7Action::RedirectPrefix { prefix, code }),
            (None, None, None) if action.is_some() => Target::Action(L7Action::Reject),
            (None, None, None) => Target::Unsaid { http_code },
        })
    }
}

/// What the fields of a request come to.
enum Target<P> {
    /// An action with its target.
    Action(L7Action<P>),
    /// Neither; at most the code.
    Unsaid {
        /// What was said of the code.
        http_code: Set<Option<RedirectCode>>,
    },
}

fn lacks_target(action: L7ActionType) -> Refusal {
    let field = match action {
        L7ActionType::RedirectToPool => "redirect_pool_id",
        L7ActionType::RedirectPrefix => "redirect_prefix",
        L7ActionType::RedirectToUrl | L7ActionType::Reject => "redirect_url",
    };
    Refusal::InvalidL7Policy(alloc::format!("{field} must not be None"))
}

/// An L7 rule to create.
#[derive(Clone, Debug, PartialEq)]
pub struct NewL7Rule {
    /// Whether it counts.
    pub admin_state_up: bool,
    /// What it looks at.
    pub rule_type: L7RuleType,
    /// How it compares.
    pub compare_type: CompareType,
    /// Which header, cookie or field.
    pub key: Option<String>,
    /// What is compared with.
    pub value: String,
    /// Whether it matches what otherwise would not.
    pub invert: bool,
    /// Its tags.
    pub tags: Tags,
}

/// Changes of an L7 rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct L7RuleUpdate {
    /// Whether it counts.
    pub admin_state_up: Set<bool>,
    /// What it looks at.
    pub rule_type: Set<L7RuleType>,
    /// How it compares.
    pub compare_type: Set<CompareType>,
    /// Which header, cookie or field.
    pub key: Set<Option<String>>,
    /// What is compared with.
    pub value: Set<String>,
    /// Whether it matches what otherwise would not.
    pub invert: Set<bool>,
    /// Tags.
    pub tags: Set<Tags>,
}

#[cfg(test)]
mod tests;
