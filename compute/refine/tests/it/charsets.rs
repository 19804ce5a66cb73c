//! The same page in several charsets, declared truly, falsely and not at all.

use openledger_refine::{PROFILE_V1, Page, extract};

use crate::page;

const FRENCH: &str = "<html><body><article><p>Le château était fermé depuis l'été; les élèves du \
    village y entraient pourtant par une fenêtre brisée, près de la forêt, et déjà les \
    façades se couvraient de lierre. Personne ne s'étonnait plus de voir la fumée.</p></article>";
const JAPANESE: &str = "<html><body><article><p>吾輩は町の古い図書館で働いている。毎朝、窓を開けて\
    カレンダーをめくり、子供たちのために本を並べる。静かな一日が始まる。</p></article>";

fn text(page: &Page) -> String {
    extract(page, &PROFILE_V1).unwrap().text
}

#[test]
fn every_way_to_say_the_same() {
    let (latin, _, _) = encoding_rs::WINDOWS_1252.encode(FRENCH);
    let mut utf16 = vec![0xfe, 0xff];
    utf16.extend(FRENCH.encode_utf16().flat_map(u16::to_be_bytes));
    let expected = text(&page("text/html; charset=utf-8", FRENCH));
    assert!(expected.contains("fenêtre brisée"));
    let pages = [
        page("text/html; charset=windows-1252", latin.as_ref()),
        page("text/html; charset=\"latin1\"", latin.as_ref()),
        page("text/html", latin.as_ref()),
        page("text/html; charset=utf-8", latin.as_ref()),
        page("text/html; charset=iso-8859-1", FRENCH),
        page("text/html", utf16),
    ];
    for page in pages {
        assert_eq!(text(&page), expected, "{:?}", page.content_type);
    }
}

#[test]
fn shift_jis_with_and_without_a_lie() {
    let (sjis, _, _) = encoding_rs::SHIFT_JIS.encode(JAPANESE);
    let expected = text(&page("text/html; charset=utf-8", JAPANESE));
    for content_type in ["text/html; charset=Shift_JIS", "text/html", "text/html; charset=utf-8"] {
        assert_eq!(text(&page(content_type, sjis.as_ref())), expected, "{content_type}");
    }
}
