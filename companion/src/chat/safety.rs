//! Requests that get a fixed, safe answer without the model and without any tool.

use std::sync::LazyLock;

use regex::RegexSet;

/// A subject on which the companion says nothing of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Harm to oneself.
    SelfHarm,
    /// Harm to others and other crime.
    Crime,
    /// Medical advice.
    Medical,
    /// Financial advice.
    Financial,
}

impl Subject {
    /// What is answered.
    pub fn answer(self) -> &'static str {
        match self {
            Self::SelfHarm => {
                "I'm really sorry that you are feeling this way, and I'm glad you told me. I'm not able to help with \
                 this as you deserve, but people are there right now: please call your local emergency number, or a \
                 crisis line such as 988 in the US or 116 123 in many European countries, or reach out to someone you \
                 trust. You don't have to go through this alone."
            }
            Self::Crime => {
                "I can't help with that. If somebody is in danger, please call your local emergency number. I'm happy \
                 to help you plan something else."
            }
            Self::Medical => {
                "I can't give medical advice. Please ask a doctor or a pharmacist, or call your local emergency number \
                 if it is urgent. I can remind you to make an appointment, if you like."
            }
            Self::Financial => {
                "I can't give financial advice. Please talk to a licensed adviser who knows your situation. I can \
                 remind you to make an appointment, if you like."
            }
        }
    }
}

/// The subject of a message that must be answered safely.
pub fn check(message: &str) -> Option<Subject> {
    let lower = message.to_ascii_lowercase().replace('’', "'");
    SUBJECTS.iter().find(|(_, patterns)| patterns.is_match(&lower)).map(|(subject, _)| *subject)
}

static SUBJECTS: LazyLock<[(Subject, RegexSet); 4]> = LazyLock::new(|| {
    let compile = |patterns: &[&str]| {
        RegexSet::new(patterns).unwrap_or_else(|error| unreachable!("the patterns are constant: {error}"))
    };
    [
        (
            Subject::SelfHarm,
            compile(&[
                r"\b(?:kill(?:ing)?|hurt(?:ing)?|harm(?:ing)?|cut(?:ting)?|hang(?:ing)?|shoot(?:ing)?) my ?self\b",
                r"\bsuicid(?:e|al)\b|\bself[- ]harm",
                r"\b(?:end|take|ending|taking) my (?:own )?life\b|\bend it all\b",
                r"\b(?:want|wish|going|ready) to (?:die|be dead)\b|\b(?:don'?t|do not) want to (?:live|be alive|wake up)\b",
                r"\boverdos(?:e|ing)\b",
            ]),
        ),
        (
            Subject::Crime,
            compile(&[
                r"\b(?:make|build|building|making|assemble) (?:a |an |some )?(?:pipe |home-?made |dirty )?(?:bomb|explosive|grenade|molotov)",
                r"\b(?:how (?:to|do i|can i|could i)|help me|ways? to|remind me to|want to|going to) (?:kill|murder|poison|rob|kidnap|blackmail|stab|shoot|assault) (?:(?:some|any)(?:one|body)|him|her|them|my|a (?:person|man|woman|bank|store)|the (?:bank|store)|people)",
                r"\b(?:cook|make|synthesi[sz]e|produce|manufacture|sell|buy|deal) (?:some )?(?:meth|methamphetamine|heroin|fentanyl|cocaine|crack|illegal drugs)\b",
                r"\b(?:launder|laundering) money\b|\bmoney laundering\b|\bcounterfeit (?:money|bills|cash)\b",
                r"\b(?:hack|break) into (?:a |an |some(?:one|body)(?:'s)? |my |the |his |her |their )?(?:\w+(?:'s)? )?(?:account|computer|phone|network|email|e-mail|bank|house|car|wifi|wi-fi)\b",
                r"\b(?:steal|stealing) (?:a |an |some(?:one|body)'s |my |his |her |their |the )?(?:car|identity|credit card|money|password|passwords|wallet)\b",
                r"\b(?:evade|evading) taxes\b|\btax evasion\b|\bhow (?:to|do i|can i) shoplift\b|\b(?:commit|committing) (?:\w+ )?(?:fraud|a crime|murder|arson)\b",
            ]),
        ),
        (
            Subject::Medical,
            compile(&[
                r"\b(?:diagnose|diagnosis)\b",
                r"\b(?:what|which|how much|how many|how often)\b.{0,40}\b(?:medication|medicine|dose|dosage|antibiotic|pills?|mg|ibuprofen|paracetamol|aspirin|insulin|antidepressants?)\b.{0,40}\b(?:should|can|could|do|to|may) (?:i|we|my|take|give)\b",
                r"\b(?:should|can|could|may) (?:i|my \w+|we) (?:take|stop taking|mix|combine|double|start|use)\b.{0,50}\b(?:medication|medicine|meds|dose|dosage|antibiotics?|pills?|mg|ibuprofen|paracetamol|aspirin|insulin|antidepressants?|painkillers?|supplements?|steroids?|xanax|ssri)\b",
                r"\bmedical advice\b|\b(?:treat|cure|treatment for|cure for) (?:my |a |the )?(?:cancer|infection|disease|depression|diabetes|tumou?r|rash|fever|chest pain)\b",
                r"\b(?:symptoms?|chest pain|rash|lump)\b.{0,60}\b(?:what (?:is|should|could|does)|should i|do i have|is it|mean)\b|\bdo i have (?:cancer|covid|diabetes|an infection|depression|adhd)\b",
            ]),
        ),
        (
            Subject::Financial,
            compile(&[
                r"\b(?:financial|investment|investing|tax|stock) advice\b",
                r"\b(?:what|which) (?:stocks?|shares?|crypto|coins?|funds?|etfs?|bonds?)\b.{0,40}\b(?:buy|sell|invest|hold|pick|own)\b",
                r"\b(?:should|can|could) (?:i|we) (?:buy|sell|short|invest|hold|put|refinance|cash out|take out)\b.{0,60}\b(?:stocks?|shares?|crypto|bitcoin|btc|ethereum|funds?|etfs?|bonds?|mortgage|loan|options|savings|401k|pension|retirement|gold|market)\b",
                r"\b(?:where|how|what) (?:should|do|can|to) (?:i )?invest\b|\bhow (?:should|do|can) i invest\b",
            ]),
        ),
    ]
});
