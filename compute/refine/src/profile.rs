//! The processing profile: every constant that can change an output, under one hash.
//!
//! Two nodes can only be compared when they run the same profile. Its id covers the
//! numbers below and the versions of the libraries that decide about text, so raising a
//! library is a new profile, never a silent change.

use serde::Serialize;

/// Named, frozen constants of one version of the pipeline. Shares are in permille
/// (parts per thousand), so that every decision is an integer comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// Name, for people.
    pub name: &'static str,
    /// `name version` of every library that decides about text, comma-separated.
    pub components: &'static str,

    /// Longest body that is read, in bytes.
    pub body_bytes_max: u64,
    /// Nodes of a parsed page.
    pub nodes_max: u32,
    /// Depth of a parsed page, in elements.
    pub depth_max: u32,
    /// Sum of the depths of all nodes: what a pass that walks from every node to the
    /// root costs.
    pub depth_sum_max: u64,
    /// Most byte comparisons that the readability pass may cost at its end; dearer pages
    /// get their plain body text.
    pub escaping_cost_max: u64,
    /// Attributes of one tag.
    pub attributes_max: u32,
    /// Longest text, in bytes.
    pub text_bytes_max: u64,
    /// Undecodable characters, permille of all.
    pub undecodable_permille_max: u32,
    /// Control characters in plain text, permille of all.
    pub control_permille_max: u32,

    /// Longest title, in characters.
    pub title_chars_max: u32,
    /// Longest author, in characters.
    pub author_chars_max: u32,

    /// Characters of a text that language identification reads.
    pub language_chars_max: u32,

    /// Fewest words.
    pub words_min: u32,
    /// Most words.
    pub words_max: u32,
    /// Shortest mean word, in thousandths of a character.
    pub word_length_milli_min: u32,
    /// Longest mean word, in thousandths of a character.
    pub word_length_milli_max: u32,
    /// `#` or ellipses, permille of words.
    pub symbol_permille_max: u32,
    /// Lines that begin with a bullet, permille of lines.
    pub bullet_permille_max: u32,
    /// Lines that end with an ellipsis, permille of lines.
    pub ellipsis_line_permille_max: u32,
    /// Words with a letter, permille of words.
    pub alphabetic_permille_min: u32,
    /// Different English function words that an English text must use.
    pub stop_words_min: u32,

    /// Repeated lines, permille of lines; the same limit holds for paragraphs.
    pub duplicate_lines_permille_max: u32,
    /// Characters in repeated lines, permille of all; the same holds for paragraphs.
    pub duplicate_line_chars_permille_max: u32,
    /// Characters in the most frequent 2-, 3- and 4-gram of words, permille of all.
    pub top_ngram_permille_max: [u32; 3],
    /// Characters in repeated 5- to 10-grams of words, permille of all.
    pub duplicate_ngram_permille_max: [u32; 6],
}

/// The first profile. Quality and repetition limits are those of MassiveText (Rae et
/// al. 2021, "Gopher", table A1); parse limits are far above any page seen in public
/// collections (99 % lie under 2.3 MB).
pub const PROFILE_V1: Profile = Profile {
    name: "openledger-refine-1",
    components: "chardetng 1.0.0, dom_query 0.29.0, dom_smoothie 0.19.0, encoding_rs 0.8.44, \
                 html5ever 0.40.1, unicode-segmentation 1.13.3, url 2.5.8, whatlang 0.18.0",
    body_bytes_max: 10 * 1024 * 1024,
    nodes_max: 200_000,
    depth_max: 512,
    depth_sum_max: 16_000_000,
    escaping_cost_max: 4_000_000_000,
    attributes_max: 1_024,
    text_bytes_max: 2 * 1024 * 1024,
    undecodable_permille_max: 20,
    control_permille_max: 10,
    title_chars_max: 300,
    author_chars_max: 200,
    language_chars_max: 16_384,
    words_min: 50,
    words_max: 100_000,
    word_length_milli_min: 3_000,
    word_length_milli_max: 10_000,
    symbol_permille_max: 100,
    bullet_permille_max: 900,
    ellipsis_line_permille_max: 300,
    alphabetic_permille_min: 800,
    stop_words_min: 2,
    duplicate_lines_permille_max: 300,
    duplicate_line_chars_permille_max: 200,
    top_ngram_permille_max: [200, 180, 160],
    duplicate_ngram_permille_max: [150, 140, 130, 120, 110, 100],
};

/// Domain of [`Profile::profile_id`].
const PROFILE_DOMAIN: &[u8] = b"openledger/refine/profile/1\0";

impl Profile {
    /// The hash that names this profile: BLAKE3 of its canonical CBOR under a domain.
    #[must_use]
    pub fn profile_id(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(PROFILE_DOMAIN);
        // Integers, strings and fixed arrays always encode; an empty encoding would
        // only make the id useless, not wrong for another profile.
        hasher.update(&serde_cbor::to_vec(self).unwrap_or_default());
        *hasher.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_depends_on_every_number() {
        let changed = Profile { stop_words_min: 3, ..PROFILE_V1.clone() };
        assert_ne!(PROFILE_V1.profile_id(), changed.profile_id());
        assert_eq!(PROFILE_V1.profile_id(), PROFILE_V1.profile_id());
    }

    /// A library raised without a new profile would make old outputs unverifiable.
    #[test]
    fn components_are_the_versions_in_use() {
        let lock = include_str!("../../../Cargo.lock");
        for component in PROFILE_V1.components.split(", ") {
            let (name, version) = component.trim().split_once(' ').unwrap();
            let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
            assert!(lock.contains(&entry), "{component} is not what Cargo.lock has");
        }
    }
}
