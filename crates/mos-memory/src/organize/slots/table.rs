//! The forms of words that state something.

/// How the object of a statement is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object {
    /// A proper name: words with a capital.
    Name,
    /// Words up to one that begins something else.
    Phrase,
    /// As it was found.
    Exact,
}

/// One form of words.
pub(super) struct Form {
    /// The state; `attribute` means the one that the form's group `attr` names.
    pub(super) slot: &'static str,
    pub(super) object: Object,
    /// A regular expression over lower-case text with the groups `who`, `what`, and perhaps `not` and `attr`. `{who}`,
    /// `{state}`, `{poss}`, `{cwho}` and `{cstate}` stand for the expressions below.
    pub(super) pattern: &'static str,
}

/// Somebody, in English.
pub(super) const WHO: &str = r"\b(?P<who>i|we|(?:the )?user|my(?: [a-z'-]+){1,3}?|[^\W\d_][\w-]*(?: [^\W\d_][\w-]*)??)";

/// Somebody, up to a verb: "I am now", "the user does not".
pub(super) const STATE: &str = concat!(
    r"(?:'m|'ve|'s|'re| am| is| are| have| has| had)?",
    r"(?: (?:now|just|recently|currently|already|finally|still|also|actually|permanently|been))*",
    r"(?P<not> (?:do not|does not|don't|doesn't|am not|is not|isn't|not|no longer|never))?",
    r"(?: (?:now|currently|actually|really))*",
);

/// Whose something is, in English.
pub(super) const POSSESSOR: &str = r"\b(?P<who>my|our|(?:the )?user's|[^\W\d_][\w-]*'s)";

/// Somebody, in Chinese.
pub(super) const CHINESE_WHO: &str = concat!(
    "(?P<who>我的?(?:哥哥|弟弟|姐姐|妹妹|父母|爸爸|妈妈|父亲|母亲|朋友|同事|儿子|女儿|丈夫|妻子|老婆|老公",
    "|男朋友|女朋友|爷爷|奶奶|叔叔|阿姨|室友|老板)|我们?|用户)",
);

/// Words between somebody and a verb, in Chinese.
pub(super) const CHINESE_STATE: &str =
    "(?:现在|目前|已经|已|最近|刚刚|刚|终于|今年|仍然|还|又|就|都|一直)*(?P<not>不再|不|没有|没)?";

const fn form(slot: &'static str, object: Object, pattern: &'static str) -> Form {
    Form { slot, object, pattern }
}

pub(super) const FORMS: &[Form] = &[
    form(
        "residence",
        Object::Name,
        r"{who}{state} (?:live|lives|living|reside|resides|residing|based|settled|settling) (?:in|at|near) (?P<what>.+)",
    ),
    form(
        "residence",
        Object::Name,
        concat!(
            r"{who}{state} (?:moved|moving|move|moves|relocated|relocating|relocate|emigrated|immigrated)",
            r"(?: (?:back|over|down|up|out|away|here))?(?: from .+?)?? to (?P<what>.+)",
        ),
    ),
    form("employer", Object::Name, r"{who}{state} (?:work|works|working|employed) (?:at|for|with|by) (?P<what>.+)"),
    form(
        "employer",
        Object::Name,
        concat!(
            r"{who}{state} (?:started|starting|start|got|took|accepted)",
            r"(?: (?:working|work|(?:a|my)(?: new)? (?:job|position|role)))? (?:at|with) (?P<what>.+)",
        ),
    ),
    form("occupation", Object::Phrase, r"{who}{state} (?:work|works|working|employed) as (?P<what>.+)"),
    form("occupation", Object::Phrase, r"{who}{state} (?:got|took|started) a(?: new)? job as (?P<what>.+)"),
    form(
        "occupation",
        Object::Phrase,
        r"{poss}(?: new| current)? (?:job|occupation|profession) is(?P<not> not| no longer)?(?: now)? (?P<what>.+)",
    ),
    form("name", Object::Name, r"{poss} name is(?P<not> not)?(?: now)? (?P<what>.+)"),
    form("name", Object::Name, r"\b(?P<who>i)(?:'m| am)(?: now)? called (?P<what>.+)"),
    form("age", Object::Exact, r"{who}(?:'m|'s| am| is)(?: now| already)? (?P<what>\d{1,3}) years? old"),
    form("age", Object::Exact, r"\b(?P<who>i)(?:'m| am)(?: now| already)? (?P<what>\d{1,3})$"),
    form("age", Object::Exact, r"{who}{state} turned (?P<what>\d{1,3})\b"),
    form(
        "partner",
        Object::Name,
        concat!(
            r"{poss} (?:wife|husband|partner|girlfriend|boyfriend|spouse|fianc[eé]e?)",
            r"(?: is (?:called|named)|'s name is) (?P<what>.+)",
        ),
    ),
    form("partner", Object::Name, r"{who}{state}(?: got)? (?:married to|engaged to|dating) (?P<what>.+)"),
    form("marital status", Object::Exact, r"{who}{state}(?: got)? (?P<what>single|married|divorced|widowed|engaged)\b"),
    form(
        "attribute",
        Object::Phrase,
        r"{poss}(?: new)? (?P<attr>favou?rite [a-z]+(?: [a-z]+)??) is(?P<not> not| no longer)?(?: now)? (?P<what>.+)",
    ),
    form("attribute", Object::Name, r"{poss}(?: new)? (?P<attr>boss|manager|doctor|hometown) is (?P<what>.+)"),
    form(
        "attribute",
        Object::Exact,
        concat!(
            r"{poss}(?: new)? (?P<attr>email|phone number|birthday)(?: address)? is(?: now)?(?: on)? ",
            r"(?P<what>[^\s,]+(?: [^\s,]+){0,2})",
        ),
    ),
    form("attribute", Object::Phrase, r"{poss}(?: new)? (?P<attr>car) is(?: now)? (?P<what>an? .+)"),
    form("car", Object::Phrase, r"{who}{state} (?:drive|drives|driving) (?P<what>an? .+)"),
    form(
        "diet",
        Object::Exact,
        concat!(
            r"{who}{state}(?: became| turned| went| gone)?(?: on)?(?: an?)? ",
            r"(?P<what>vegetarian|vegan|pescatarian|omnivore|flexitarian|keto|paleo)\b",
        ),
    ),
    form("diet", Object::Exact, r"{who}{state} (?:eat|eats|eating) (?P<what>meat)\b"),
    form("school", Object::Name, r"{who}{state} (?:study|studies|studying|enrolled) at (?P<what>.+)"),
    form("major", Object::Phrase, r"{who}{state} (?:majoring|major|majors) in (?P<what>.+)"),
    form(
        "residence",
        Object::Phrase,
        concat!(
            r"{cwho}{cstate}(?:居住在|居住于|住在|住到|搬家到|搬到|搬去|搬进|定居在|定居|移居到|移居|迁居到)了?",
            r"(?P<what>[\x{4e00}-\x{9fff}a-z ]{2,16})",
        ),
    ),
    form("employer", Object::Phrase, r"{cwho}{cstate}在(?P<what>[\x{4e00}-\x{9fff}\w]{2,16}?)(?:工作|上班|就职|任职)"),
    form(
        "occupation",
        Object::Phrase,
        r"{cwho}{cstate}(?:是|当|做|成为|担任)了?(?:一名|一位)(?P<what>[\x{4e00}-\x{9fff}a-z]{2,12})",
    ),
    form("name", Object::Phrase, r"(?P<who>我)(?:改名叫|的名字是|的名字叫|叫)(?P<what>[\x{4e00}-\x{9fff}]{2,4})$"),
    form("age", Object::Exact, r"{cwho}{cstate}(?P<what>\d{1,3})岁"),
    form(
        "partner",
        Object::Phrase,
        concat!(
            r"(?P<who>我)的?(?:妻子|丈夫|老婆|老公|男朋友|女朋友|对象)(?:名叫|叫)",
            r"(?P<what>[\x{4e00}-\x{9fff}a-z]{1,8})",
        ),
    ),
    form(
        "attribute",
        Object::Phrase,
        r"{cwho}{cstate}最喜欢的(?P<attr>[\x{4e00}-\x{9fff}]{1,6}?)是(?P<what>[\x{4e00}-\x{9fff}\w]{1,16})",
    ),
    form("diet", Object::Exact, r"{cwho}{cstate}(?:是|成为|变成)了?(?:一名|一位|一个)?(?:纯|全)?(?P<what>素)食"),
    form("diet", Object::Exact, r"{cwho}{cstate}(?:开始|改)?吃(?:纯|全)?(?P<what>素)"),
    form("diet", Object::Exact, r"{cwho}{cstate}(?:开始|又)?吃(?P<what>肉)"),
    form("car", Object::Phrase, r"{cwho}{cstate}开(?:着|的是|的车是)?(?:一辆)(?P<what>[\x{4e00}-\x{9fff}\w]{2,12})"),
];

/// Words by which full-text search finds memories about a state; a state that is not here is its own words.
pub(super) const CUES: &[(&str, &str)] = &[
    (
        "residence",
        "live lives living reside based settled move moved relocated emigrated immigrated 住 住在 居住 搬到 搬家 定居 移居",
    ),
    ("employer", "work works working employed job position role started 工作 上班 就职 任职"),
    ("occupation", "work working job occupation profession employed 当 成为 担任 一名 一位"),
    ("name", "name called 名字 叫"),
    ("age", "years old age turned 岁"),
    (
        "partner",
        "wife husband partner girlfriend boyfriend spouse married engaged dating 妻子 丈夫 老婆 老公 男朋友 女朋友 对象",
    ),
    ("marital status", "single married divorced widowed engaged"),
    ("car", "drive drives driving car 开 车"),
    ("diet", "vegetarian vegan pescatarian omnivore flexitarian keto paleo meat eat 吃素 素食 素食者 素食主义者 肉"),
    ("school", "study studies studying enrolled"),
    ("major", "major majoring"),
];
