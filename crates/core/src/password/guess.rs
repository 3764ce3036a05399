//! How many guesses a password takes of one who knows what people choose.
//!
//! The password is taken apart in the way that makes it cheapest: common passwords, names,
//! repetitions, sequences, walks over a keyboard, years, and single characters. A whole costs the
//! product of its parts; costs are logarithms, in tenths of a decade.
//!
//! The work is bounded by the first [`READ`] characters and the longest word, whatever they are:
//! 0.1 ms for a sentence, 1 ms for the worst. What comes after them could only make it harder.

use unicode_normalization::UnicodeNormalization;

/// One password a line, sorted by bytes, with the decade of its rank: 1 for the ten most common.
/// From @zxcvbn-ts/language-common 4.1.3 and, of 15 characters or more, `SecLists` (both MIT; see common.LICENSE).
const COMMON: &str = include_str!("common.txt");

/// How many characters are looked at.
const READ: usize = 100;
/// The most steps that they can take.
const STEPS: usize = 100_000;

const ROWS: [&str; 16] = [
    "1234567890-=",
    "qwertyuiop[]",
    "asdfghjkl;'",
    "zxcvbnm,./",
    "qwertzuiopü",
    "asdfghjklöä",
    "yxcvbnm,.-",
    "azertyuiop",
    "qsdfghjklm",
    "wxcvbn",
    "йцукенгшщзхъ",
    "фывапролджэ",
    "ячсмитьбю",
    "1q2w3e4r5t6y7u8i9o0p",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
    "qazwsxedcrfvtgbyhnujm",
];

/// A name that guessers know: one of about ten.
const NAME: u32 = 10;
/// One of some thirty walks and sequences.
const RUN: u32 = 15;
/// Where a repetition begins, and how long it is.
const COPY: u32 = 15;
/// One of a hundred years.
const YEAR: u32 = 20;
/// The shortest run, copy or name that is one.
const SHORTEST: usize = 3;

/// As it is compared: in lower case, and without differences of form such as full width.
pub(super) fn folded(text: &str) -> Vec<char> {
    let lower = text.nfkc().flat_map(char::to_lowercase);
    lower.nfkc().take(READ).collect()
}

/// A folded text, and what it may stand for where digits stand for letters.
pub(super) struct Spellings(Vec<Vec<char>>);

impl Spellings {
    pub(super) fn of(text: &[char]) -> Self {
        let read = |one| text.iter().map(|char| letter(*char, one)).collect();
        let mut spellings = vec![text.to_vec(), read('i'), read('l')];
        spellings.dedup();
        Spellings(spellings)
    }

    /// Whether one of them is a common password.
    pub(super) fn is_common(&self) -> bool {
        let common = |text: &Vec<char>| words(text).any(|(length, _)| length == text.len());
        self.0.iter().any(common)
    }

    /// How many characters there are beside these names.
    pub(super) fn beside(&self, names: &[Vec<char>]) -> usize {
        let beside = |text: &Vec<char>| beside(text, names);
        self.0.iter().map(beside).min().unwrap_or(0)
    }
}

fn beside(mut text: &[char], names: &[Vec<char>]) -> usize {
    let mut count = 0;
    while !text.is_empty() {
        let here = names.iter().filter(|name| text.starts_with(name));
        let length = here.map(Vec::len).max().unwrap_or(0);
        count += usize::from(length == 0);
        text = &text[length.max(1)..];
    }
    count
}

/// The letter that a digit or sign looks like.
fn letter(char: char, one: char) -> char {
    match char {
        '1' | '!' | '|' => one,
        '0' => 'o',
        '3' | '€' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '6' | '9' => 'g',
        '7' | '+' => 't',
        '8' => 'b',
        '2' => 'z',
        '(' => 'c',
        other => other,
    }
}

/// The common passwords that a text begins with: their lengths and costs.
fn words(text: &[char]) -> impl Iterator<Item = (usize, u32)> {
    let mut known = COMMON;
    let letters = text.iter().enumerate().map_while(move |(at, char)| {
        let letter = u8::try_from(*char).ok().filter(u8::is_ascii_graphic)?;
        known = beginning(known, at, letter);
        (!known.is_empty()).then_some((at + 1, known))
    });
    letters.filter_map(|(length, known)| Some((length, cost(known.get(length..)?)?)))
}

/// Of lines that agree up to a column those with a letter there.
fn beginning(lines: &str, column: usize, letter: u8) -> &str {
    let from = first(lines, |line| line.as_bytes()[column] >= letter);
    let rest = &lines[from..];
    &rest[..first(rest, |line| line.as_bytes()[column] > letter)]
}

/// Where the first line begins for which something holds that holds for all after it.
fn first(lines: &str, holds: impl Fn(&str) -> bool) -> usize {
    let (mut from, mut to) = (0, lines.len());
    while from < to {
        let middle = from.midpoint(to);
        let start = lines[..middle].rfind('\n').map_or(0, |end| end + 1);
        let end = lines[middle..]
            .find('\n')
            .map_or(lines.len(), |at| middle + at + 1);
        if holds(&lines[start..end]) {
            to = start;
        } else {
            from = end;
        }
    }
    from
}

/// Of a word that ends here, which sorts before all that go on.
fn cost(rest: &str) -> Option<u32> {
    match rest.as_bytes() {
        [b'\t', decade, ..] => Some(u32::from(decade - b'0') * 10),
        _ => None,
    }
}

/// The logarithm of how many guesses a folded text takes, in tenths, for one who knows `names`.
pub(super) fn guesses(text: &[char], names: &[Vec<char>]) -> u32 {
    let backwards: Vec<char> = text.iter().rev().copied().collect();
    forwards(text, names).min(forwards(&backwards, names))
}

fn forwards(text: &[char], names: &[Vec<char>]) -> u32 {
    let mut path = Path::new(text.len());
    let spellings = Spellings::of(text);
    for from in 0..text.len() {
        path.part(from, 1, one(text[from]));
        for spelling in &spellings.0 {
            for (length, cost) in words(&spelling[from..]) {
                path.part(from, length, cost);
            }
            for name in names
                .iter()
                .filter(|name| spelling[from..].starts_with(name))
            {
                path.part(from, name.len(), NAME);
            }
        }
        path.parts(from, sequence(&text[from..]), RUN);
        path.parts(from, walk(&text[from..]), RUN);
        path.parts(from, copy(text, from), COPY);
        if is_year(&text[from..]) {
            path.part(from, 4, YEAR);
        }
    }
    path.whole()
}

/// The cheapest way from the beginning to each place.
struct Path {
    costs: Vec<u32>,
    steps: usize,
}

impl Path {
    fn new(length: usize) -> Self {
        let mut costs = vec![u32::MAX; length + 1];
        costs[0] = 0;
        Path { costs, steps: 0 }
    }

    fn part(&mut self, from: usize, length: usize, cost: u32) {
        self.steps += 1;
        let cost = self.costs[from].saturating_add(cost);
        let end = &mut self.costs[from + length];
        *end = cost.min(*end);
    }

    /// Any beginning of a run is one.
    fn parts(&mut self, from: usize, longest: usize, cost: u32) {
        for length in SHORTEST..=longest {
            self.part(from, length, cost);
        }
    }

    fn whole(&self) -> u32 {
        debug_assert!(self.steps <= STEPS, "{} steps", self.steps);
        self.costs.last().copied().unwrap_or(0)
    }
}

/// A character that nothing explains.
fn one(char: char) -> u32 {
    match char {
        '0'..='9' => 10,
        'a'..='z' => 14,
        ' '..='~' => 15,
        _ => 20,
    }
}

/// How long a text goes on as it begins: abc, 2468, 321.
fn sequence(text: &[char]) -> usize {
    let step = |pair: &[char]| i64::from(u32::from(pair[1])) - i64::from(u32::from(pair[0]));
    let mut steps = text.windows(2).map(step);
    match steps.next() {
        Some(first @ (-3..=3)) => 2 + steps.take_while(|step| *step == first).count(),
        _ => 0,
    }
}

/// How long a text follows a row of keys, either way.
fn walk(text: &[char]) -> usize {
    let along = |row: &&str| {
        let (there, back) = (row.chars(), row.chars().rev());
        agreeing(there, text).max(agreeing(back, text))
    };
    ROWS.iter().map(along).max().unwrap_or(0)
}

fn agreeing(row: impl Iterator<Item = char>, text: &[char]) -> usize {
    let from = row.skip_while(|key| text.first() != Some(key));
    from.zip(text)
        .take_while(|(key, char)| key == *char)
        .count()
}

/// How long a text repeats from a place on what it had before.
fn copy(text: &[char], from: usize) -> usize {
    let again = |before: usize| {
        let pairs = text[before..].iter().zip(&text[from..]);
        pairs.take_while(|(one, other)| one == other).count()
    };
    (0..from).map(again).max().unwrap_or(0)
}

fn is_year(text: &[char]) -> bool {
    let century = text.starts_with(&['1', '9']) || text.starts_with(&['2', '0']);
    century && text.len() >= 4 && text[2..4].iter().all(char::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_common(text: &str) -> bool {
        Spellings::of(&folded(text)).is_common()
    }

    #[test]
    fn every_word_of_the_list_is_found_and_there_are_many() {
        let mut count = 0;
        for line in COMMON.lines() {
            let (word, decade) = line.split_once('\t').unwrap();
            let chars: Vec<char> = word.chars().collect();
            let cost = u32::from(decade.as_bytes()[0] - b'0') * 10;
            let found = words(&chars).last();
            assert_eq!(found, Some((chars.len(), cost)), "{word}");
            count += 1;
        }
        assert!(count >= 10_000, "{count}");
        assert!(COMMON.len() < 640 * 1024);
    }

    #[test]
    fn what_is_not_on_the_list_is_not_found() {
        for text in [
            "",
            "passwore",
            "zzzzzzzzzzzzzzy",
            "\u{e9}",
            "~",
            "\t",
            "password\t1",
            "pass word",
        ] {
            assert!(!is_common(text), "{text}");
        }
    }

    #[test]
    fn case_width_and_look_alikes_make_no_difference() {
        for text in [
            "PassWord",
            "ｐａｓｓｗｏｒｄ",
            "p4$$w0rd",
            "DR@G0N",
            "1etmein",
            "l3tm3!n",
        ] {
            assert!(is_common(text), "{text}");
        }
    }

    #[test]
    fn a_text_costs_what_its_cheapest_parts_cost() {
        let table = [
            ("", 0),
            ("x", 14),
            ("password", 10),
            ("drowssap", 10),
            ("passwordpassword", 20),
            ("x~7\u{e9}", 14 + 15 + 10 + 20),
            ("lmnopqrs", 15),
            ("srqponml", 15),
            ("1999", 20),
            ("aaaaaaaaaaaaaaaaaaaa", 15),
            ("adalovelace", 10),
        ];
        for (text, cost) in table {
            assert_eq!(
                guesses(&folded(text), &[folded("adalovelace")]),
                cost,
                "{text}"
            );
        }
    }

    #[test]
    fn no_text_takes_more_than_a_bounded_number_of_steps() {
        let mut state = 7_u64;
        let mut random = move |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % below
        };
        let pieces = [
            "a",
            "1",
            "4@8({[<369&#!1/|0$5+7%2zZ",
            "password",
            "qwerty",
            "1999",
            "\u{1f469}\u{200d}",
            "\u{fdfa}",
            "\u{130}",
            "e\u{301}",
            "\u{0}",
            "\t",
            "\n",
            "日本",
            "abc",
            "321",
            "~",
            " ",
            "ß",
        ];
        for _ in 0..2_000 {
            let kinds = 1 + random(4);
            let text: String = (0..random(400))
                .map(|_| pieces[random(pieces.len()) / kinds])
                .collect();
            let text = folded(&text);
            assert!(text.len() <= READ);
            // The bound itself is asserted where it is counted.
            let _ = guesses(&text, &[folded("ada"), folded("a1")]);
        }
    }
}
