//! HTML into a tree, with every limit checked before the work it bounds.
//!
//! Hostile pages attack a parser by nesting (every open element is walked again for each
//! new tag), by formatting elements that the standard makes it reopen, and by tags with
//! a million attributes (each new name is compared with all before). So the page is fed
//! in small pieces, with a look at depth, node count and attributes after each. It does
//! not decide what in the tree is worth reading.

use std::borrow::Cow;
use std::cell::{Cell, Ref, RefCell};

use dom_query::{Document, NodeId, NodeRef};
use html5ever::interface::{ElementFlags, NodeOrText, QuirksMode, TreeSink};
use html5ever::tendril::{StrTendril, TendrilSink};
use html5ever::tree_builder::TreeBuilderOpts;
use html5ever::{Attribute, ParseOpts, QualName};

use crate::limits::PARSE_CHUNK_BYTES;
use crate::{Profile, Reason};

/// Parses a page, or says which limit it broke.
pub(crate) fn parse(html: &str, profile: &Profile) -> Result<Document, Reason> {
    let tree_builder = TreeBuilderOpts { scripting_enabled: false, ..TreeBuilderOpts::default() };
    let options = ParseOpts { tree_builder, ..ParseOpts::default() };
    let mut parser = html5ever::parse_document(BoundedSink::default(), options);
    let mut scan = TagScan::default();
    // The last chunk in which the parser put something into the tree, not yet scanned.
    let mut spoken = "";
    let mut rest = html;
    while !rest.is_empty() {
        let (chunk, later) = rest.split_at(rest.floor_char_boundary(PARSE_CHUNK_BYTES));
        rest = later;
        parser.process(StrTendril::from_slice(chunk));
        let sink = &parser.tokenizer.sink.sink;
        sink.check(profile)?;
        if sink.spoke.take() {
            scan = TagScan::default();
            spoken = chunk;
            continue;
        }
        // Silence: the parser may be inside a tag, which began in the last chunk at most.
        scan.feed(std::mem::take(&mut spoken).as_bytes());
        if scan.feed(chunk.as_bytes()) > profile.attributes_max {
            return Err(Reason::TooManyAttributes);
        }
    }
    let document = parser.finish();
    if exceeds_depth(&document, profile) {
        return Err(Reason::TooDeep);
    }
    Ok(document)
}

/// A node of the tree, and the slot in which its depth is kept.
#[derive(Clone, Copy)]
struct Handle {
    id: NodeId,
    slot: usize,
}

/// The tree builder's sink: builds a [`Document`] and keeps the depth of every node.
#[derive(Default)]
struct BoundedSink {
    document: Document,
    depths: RefCell<Vec<u32>>,
    deepest: Cell<u32>,
    /// Whether anything was put into the tree since this was last taken.
    spoke: Cell<bool>,
}

impl BoundedSink {
    fn check(&self, profile: &Profile) -> Result<(), Reason> {
        // One entry per odd byte of a hostile page: never kept.
        self.document.errors.borrow_mut().clear();
        if self.document.tree.len() > profile.nodes_max as usize {
            return Err(Reason::TooManyNodes);
        }
        if self.deepest.get() > profile.depth_max {
            return Err(Reason::TooDeep);
        }
        Ok(())
    }

    fn handle(&self, id: NodeId, depth: u32) -> Handle {
        let mut depths = self.depths.borrow_mut();
        depths.push(depth);
        Handle { id, slot: depths.len() - 1 }
    }

    fn depth(&self, handle: &Handle) -> u32 {
        self.depths.borrow().get(handle.slot).copied().unwrap_or(0)
    }

    /// Notes where a node goes and strips the handle of its slot.
    fn place(&self, child: NodeOrText<Handle>, depth: u32) -> NodeOrText<NodeId> {
        self.spoke.set(true);
        match child {
            NodeOrText::AppendText(text) => NodeOrText::AppendText(text),
            NodeOrText::AppendNode(handle) => {
                if let Some(slot) = self.depths.borrow_mut().get_mut(handle.slot) {
                    *slot = depth;
                }
                self.deepest.set(self.deepest.get().max(depth));
                NodeOrText::AppendNode(handle.id)
            }
        }
    }
}

impl TreeSink for BoundedSink {
    type Handle = Handle;
    type Output = Document;
    type ElemName<'a> = Ref<'a, QualName>;

    fn finish(self) -> Document {
        self.document
    }

    fn parse_error(&self, message: Cow<'static, str>) {
        self.document.parse_error(message);
    }

    fn get_document(&self) -> Handle {
        self.handle(self.document.get_document(), 0)
    }

    fn elem_name<'a>(&'a self, target: &'a Handle) -> Ref<'a, QualName> {
        self.document.elem_name(&target.id)
    }

    fn create_element(&self, name: QualName, attrs: Vec<Attribute>, flags: ElementFlags) -> Handle {
        self.handle(self.document.create_element(name, attrs, flags), 0)
    }

    fn create_comment(&self, text: StrTendril) -> Handle {
        self.handle(self.document.create_comment(text), 0)
    }

    fn create_pi(&self, target: StrTendril, data: StrTendril) -> Handle {
        self.handle(self.document.create_pi(target, data), 0)
    }

    fn append(&self, parent: &Handle, child: NodeOrText<Handle>) {
        let child = self.place(child, self.depth(parent) + 1);
        self.document.append(&parent.id, child);
    }

    fn append_based_on_parent_node(
        &self,
        element: &Handle,
        prev_element: &Handle,
        child: NodeOrText<Handle>,
    ) {
        let depth = self.depth(element).max(self.depth(prev_element) + 1);
        let child = self.place(child, depth);
        self.document.append_based_on_parent_node(&element.id, &prev_element.id, child);
    }

    fn append_doctype_to_document(&self, name: StrTendril, public: StrTendril, system: StrTendril) {
        self.document.append_doctype_to_document(name, public, system);
    }

    fn get_template_contents(&self, target: &Handle) -> Handle {
        // The contents hang beside the tree, yet templates nest like elements.
        self.handle(self.document.get_template_contents(&target.id), self.depth(target) + 1)
    }

    fn same_node(&self, x: &Handle, y: &Handle) -> bool {
        x.id == y.id
    }

    fn set_quirks_mode(&self, mode: QuirksMode) {
        self.document.set_quirks_mode(mode);
    }

    fn append_before_sibling(&self, sibling: &Handle, child: NodeOrText<Handle>) {
        let child = self.place(child, self.depth(sibling));
        self.document.append_before_sibling(&sibling.id, child);
    }

    fn add_attrs_if_missing(&self, target: &Handle, attrs: Vec<Attribute>) {
        self.document.add_attrs_if_missing(&target.id, attrs);
    }

    fn remove_from_parent(&self, target: &Handle) {
        self.document.remove_from_parent(&target.id);
    }

    fn reparent_children(&self, node: &Handle, new_parent: &Handle) {
        self.document.reparent_children(&node.id, &new_parent.id);
    }

    fn is_mathml_annotation_xml_integration_point(&self, handle: &Handle) -> bool {
        self.document.is_mathml_annotation_xml_integration_point(&handle.id)
    }
}

/// Exact depths of the finished tree, by a walk without recursion: moving nodes about,
/// as the standard does with misnested formatting, can deepen what was counted before.
fn exceeds_depth(document: &Document, profile: &Profile) -> bool {
    let mut node: NodeRef<'_> = document.root();
    let (mut depth, mut sum) = (0_u32, 0_u64);
    loop {
        if depth > profile.depth_max || sum > profile.depth_sum_max {
            return true;
        }
        if let Some(child) = node.first_child() {
            node = child;
            depth += 1;
            sum += u64::from(depth);
            continue;
        }
        loop {
            if let Some(next) = node.next_sibling() {
                node = next;
                sum += u64::from(depth);
                break;
            }
            let Some(parent) = node.parent() else { return false };
            node = parent;
            depth = depth.saturating_sub(1);
        }
    }
}

/// Where a tag that the scan follows stands (HTML, 13.2.5.8 and 13.2.5.32 to 39).
#[derive(Clone, Copy, PartialEq, Eq)]
enum InTag {
    Name,
    BeforeAttribute,
    Attribute,
    AfterAttribute,
    BeforeValue,
    DoubleQuoted,
    SingleQuoted,
    Unquoted,
}

const IN_TAG: [InTag; 8] = [
    InTag::Name,
    InTag::BeforeAttribute,
    InTag::Attribute,
    InTag::AfterAttribute,
    InTag::BeforeValue,
    InTag::DoubleQuoted,
    InTag::SingleQuoted,
    InTag::Unquoted,
];

/// Counts the attributes of a tag while the parser is still inside it.
///
/// What is a tag depends on the parser's state (scripts, comments, foreign content),
/// which does not show. So every `<` before a letter may start one, and all that may be
/// open are followed at once: per state, the most attributes that any of them has (plus
/// one; 0 is "none"). The true tag is among them, so the count is never too low. It is
/// rarely too high, because a parser that puts anything into the tree is inside no tag
/// that began before: the scan starts afresh, and only if silence follows.
#[derive(Default)]
struct TagScan {
    counts: [u32; IN_TAG.len()],
    /// The two bytes before the next.
    before: u8,
    last: u8,
}

impl TagScan {
    /// Reads on and returns the most attributes that a tag may have had.
    fn feed(&mut self, html: &[u8]) -> u32 {
        let mut most = 0;
        let mut open = self.counts.iter().any(|count| *count > 0);
        for &byte in html {
            if open {
                let mut next = [0_u32; IN_TAG.len()];
                open = false;
                let states = IN_TAG.iter().zip(&self.counts);
                for (state, &count) in states.filter(|(_, count)| **count > 0) {
                    let Some((to, is_new)) = step(*state, byte) else { continue };
                    let count = count + u32::from(is_new);
                    most = most.max(count - 1);
                    if let Some(slot) = next.get_mut(to as usize) {
                        *slot = (*slot).max(count);
                        open = true;
                    }
                }
                self.counts = next;
            }
            let starts = self.last == b'<' || (self.last == b'/' && self.before == b'<');
            if starts && byte.is_ascii_alphabetic() {
                let [name, ..] = &mut self.counts;
                *name = (*name).max(1);
                open = true;
            }
            (self.before, self.last) = (self.last, byte);
        }
        most
    }
}

/// Next state after `byte`, and whether an attribute begins; `None` when the tag ends.
fn step(state: InTag, byte: u8) -> Option<(InTag, bool)> {
    use InTag::{
        AfterAttribute, Attribute, BeforeAttribute, BeforeValue, DoubleQuoted, Name, SingleQuoted,
        Unquoted,
    };
    let space = byte.is_ascii_whitespace();
    Some(match (state, byte) {
        (DoubleQuoted, b'"') | (SingleQuoted, b'\'') => (BeforeAttribute, false),
        (DoubleQuoted | SingleQuoted, _) => (state, false),
        (_, b'>') => return None,
        (Name, b'/') | (Attribute | AfterAttribute, b'/') => (BeforeAttribute, false),
        (Name | Unquoted, _) if space => (BeforeAttribute, false),
        (Name | Unquoted, _) => (state, false),
        (BeforeAttribute, b'/') => (BeforeAttribute, false),
        (BeforeAttribute, _) if space => (BeforeAttribute, false),
        (BeforeAttribute, _) => (Attribute, true),
        (Attribute | AfterAttribute, b'=') => (BeforeValue, false),
        (Attribute | AfterAttribute, _) if space => (AfterAttribute, false),
        (Attribute, _) => (Attribute, false),
        (AfterAttribute, _) => (Attribute, true),
        (BeforeValue, b'"') => (DoubleQuoted, false),
        (BeforeValue, b'\'') => (SingleQuoted, false),
        (BeforeValue, _) if space => (BeforeValue, false),
        (BeforeValue, _) => (Unquoted, false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PROFILE_V1;

    fn outcome(html: &str) -> Result<usize, Reason> {
        parse(html, &PROFILE_V1).map(|document| document.tree.len())
    }

    #[test]
    fn chunks_do_not_change_the_tree() {
        let html =
            "<p class='é'>Grüße &amp; <b>mehr</b>\r\n<!-- x --></p><pre>\n a</pre>".repeat(400);
        let ours = parse(&html, &PROFILE_V1).unwrap();
        assert_eq!(ours.html(), Document::from(html).html());
    }

    #[test]
    fn nesting_is_cut_short() {
        for tag in ["div", "b", "svg", "template", "ul><li", "table><tr><td", "font x=1"] {
            let html = format!("<{tag}>").repeat(200_000);
            assert_eq!(outcome(&html), Err(Reason::TooDeep), "{tag}");
        }
    }

    #[test]
    fn siblings_are_counted() {
        assert_eq!(outcome(&"<p>a".repeat(1_000_000)), Err(Reason::TooManyNodes));
        assert_eq!(outcome(&"<br>".repeat(1_000_000)), Err(Reason::TooManyNodes));
        assert!(outcome(&"<p>a".repeat(90_000)).is_ok());
    }

    #[test]
    fn reopened_formatting_is_bounded() {
        let html: String = (0..200_000).map(|i| format!("<p><b a{i}></p>")).collect();
        assert!(outcome(&html).is_err());
        let misnested = "<a><b><i><p></a></b></i>".repeat(50_000);
        assert!(outcome(&misnested).is_err());
    }

    #[test]
    fn many_attributes_are_found_wherever_they_hide() {
        let wide: String = (0..2_000).map(|i| format!(" a{i}=1")).collect();
        assert_eq!(outcome(&format!("<p{wide}>")), Err(Reason::TooManyAttributes));
        assert_eq!(outcome(&format!("<p></p{wide}>")), Err(Reason::TooManyAttributes));
        let hidden = format!("<script>x<b c=\"</script><p{wide}>\"");
        assert_eq!(outcome(&hidden), Err(Reason::TooManyAttributes));
        let hidden = format!("<!-- <b c=' --><svg><style><p{wide}>'");
        assert_eq!(outcome(&hidden), Err(Reason::TooManyAttributes));
        let words = "word ".repeat(9_000);
        assert!(outcome(&format!("<script>if (a<b) {{ {words} }}</script><p>x")).is_ok());
        let narrow: String = (0..1_000).map(|i| format!(" a{i}='x y > z'")).collect();
        assert!(outcome(&format!("<p{narrow}>").repeat(3)).is_ok());
    }

    #[test]
    fn a_gigantic_attribute_is_one_attribute() {
        let html = format!("<img src=\"data:{}\"><p>text", "A /".repeat(1_000_000));
        assert!(outcome(&html).is_ok());
    }

    #[test]
    fn rubbish_parses() {
        for html in
            ["", "\0\0\0", "<", "</", "<!", "<![CDATA[", "&#xffffffff;", "<a b='", "\u{feff}"]
        {
            assert!(outcome(html).is_ok(), "{html:?}");
        }
        assert!(outcome(&"<".repeat(3_000_000)).is_ok());
        assert!(outcome(&"</".repeat(1_000_000)).is_ok());
    }
}
