//! Which language a text is in.
//!
//! Trigram statistics decide; what the page says of itself only breaks ties, where the
//! text is too short or too mixed for them, because templates lie about language more
//! often than texts do.

use whatlang::Lang;

use crate::{Profile, text};

/// The ISO 639-3 code of the language of `text`; `hint` is a BCP 47 tag from the page.
pub(crate) fn identify(text: &str, hint: Option<&str>, profile: &Profile) -> Option<&'static str> {
    let bytes = u64::from(profile.language_chars_max) * 4;
    let sample = text::head(text, bytes);
    let end = sample.char_indices().nth(profile.language_chars_max as usize);
    let sample = end.and_then(|(end, _)| sample.get(..end)).unwrap_or(sample);
    let detected = whatlang::detect(sample);
    let hinted = hint.and_then(from_tag);
    match (detected, hinted) {
        (Some(info), _) if info.is_reliable() => Some(info.lang().code()),
        (Some(info), Some(lang)) => {
            // A hint in another script than the text is a template's.
            let fits = lang == info.lang() || info.script().langs().contains(&lang);
            fits.then(|| lang.code())
        }
        _ => None,
    }
}

/// Two-letter codes (ISO 639-1) of the languages that the detector knows.
const TWO_LETTERS: [(&str, Lang); 70] = [
    ("af", Lang::Afr),
    ("ak", Lang::Aka),
    ("am", Lang::Amh),
    ("ar", Lang::Ara),
    ("az", Lang::Aze),
    ("be", Lang::Bel),
    ("bg", Lang::Bul),
    ("bn", Lang::Ben),
    ("ca", Lang::Cat),
    ("cs", Lang::Ces),
    ("cy", Lang::Cym),
    ("da", Lang::Dan),
    ("de", Lang::Deu),
    ("el", Lang::Ell),
    ("en", Lang::Eng),
    ("eo", Lang::Epo),
    ("es", Lang::Spa),
    ("et", Lang::Est),
    ("fa", Lang::Pes),
    ("fi", Lang::Fin),
    ("fr", Lang::Fra),
    ("gu", Lang::Guj),
    ("he", Lang::Heb),
    ("hi", Lang::Hin),
    ("hr", Lang::Hrv),
    ("hu", Lang::Hun),
    ("hy", Lang::Hye),
    ("id", Lang::Ind),
    ("it", Lang::Ita),
    ("ja", Lang::Jpn),
    ("jv", Lang::Jav),
    ("ka", Lang::Kat),
    ("km", Lang::Khm),
    ("kn", Lang::Kan),
    ("ko", Lang::Kor),
    ("la", Lang::Lat),
    ("lt", Lang::Lit),
    ("lv", Lang::Lav),
    ("mk", Lang::Mkd),
    ("ml", Lang::Mal),
    ("mr", Lang::Mar),
    ("my", Lang::Mya),
    ("nb", Lang::Nob),
    ("ne", Lang::Nep),
    ("nl", Lang::Nld),
    ("no", Lang::Nob),
    ("or", Lang::Ori),
    ("pa", Lang::Pan),
    ("pl", Lang::Pol),
    ("pt", Lang::Por),
    ("ro", Lang::Ron),
    ("ru", Lang::Rus),
    ("si", Lang::Sin),
    ("sk", Lang::Slk),
    ("sl", Lang::Slv),
    ("sn", Lang::Sna),
    ("sr", Lang::Srp),
    ("sv", Lang::Swe),
    ("ta", Lang::Tam),
    ("te", Lang::Tel),
    ("th", Lang::Tha),
    ("tk", Lang::Tuk),
    ("tl", Lang::Tgl),
    ("tr", Lang::Tur),
    ("uk", Lang::Ukr),
    ("ur", Lang::Urd),
    ("uz", Lang::Uzb),
    ("vi", Lang::Vie),
    ("yi", Lang::Yid),
    ("zh", Lang::Cmn),
];

/// The language of a BCP 47 tag such as `en-GB`.
fn from_tag(tag: &str) -> Option<Lang> {
    let primary = tag.trim().split(['-', '_']).next()?.to_ascii_lowercase();
    let short = TWO_LETTERS.iter().find(|(code, _)| *code == primary);
    short.map(|(_, lang)| *lang).or_else(|| Lang::from_code(primary))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PROFILE_V1;

    #[test]
    fn long_text_decides() {
        let german = "Die Sonne scheint heute über den Bergen, und die Kinder spielen im Garten, \
                      während die Großmutter in der Küche einen Kuchen für den Abend backt.";
        assert_eq!(identify(german, Some("en"), &PROFILE_V1), Some("deu"));
        assert_eq!(identify(german, None, &PROFILE_V1), Some("deu"));
        assert_eq!(identify("これは日本語の文章です。", None, &PROFILE_V1), Some("jpn"));
    }

    #[test]
    fn hints_break_ties() {
        assert_eq!(identify("Menu", None, &PROFILE_V1), None);
        assert_eq!(identify("Menu", Some("en-GB"), &PROFILE_V1), Some("eng"));
        assert_eq!(identify("Menu", Some("ru"), &PROFILE_V1), None);
        assert_eq!(identify("", Some("en"), &PROFILE_V1), None);
    }

    #[test]
    fn tags() {
        assert_eq!(from_tag("pt_BR"), Some(Lang::Por));
        assert_eq!(from_tag("deu"), Some(Lang::Deu));
        assert_eq!(from_tag("x-none"), None);
    }
}
