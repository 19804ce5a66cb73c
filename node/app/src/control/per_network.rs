//! One answer for each network.
//!
//! A node in one network answers with the thing itself; a node in several with an object whose
//! `networks` lists them. So programs that know one network go on working.

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// One answer for each network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerNetwork<T>(pub Vec<T>);

const NETWORKS: &str = "networks";

impl<T: Serialize> Serialize for PerNetwork<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let [one] = self.0.as_slice() {
            return one.serialize(serializer);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(NETWORKS, &self.0)?;
        map.end()
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for PerNetwork<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        let all = match value.get_mut(NETWORKS).map(Value::take) {
            Some(all) => serde_json::from_value(all),
            None => serde_json::from_value(value).map(|one| vec![one]),
        };
        all.map(Self).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_network_answers_plainly_and_several_as_a_list() {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        struct Answer {
            network: String,
        }
        let answer = |network: &str| Answer { network: network.to_owned() };
        for (all, shape) in [
            (vec![answer("a")], json!({"network": "a"})),
            (
                vec![answer("a"), answer("b")],
                json!({"networks": [{"network": "a"}, {"network": "b"}]}),
            ),
            (vec![], json!({"networks": []})),
        ] {
            let value = serde_json::to_value(PerNetwork(all.clone())).unwrap();
            assert_eq!(value, shape);
            let back: PerNetwork<Answer> = serde_json::from_value(value).unwrap();
            assert_eq!(back.0, all);
        }
        assert!(serde_json::from_value::<PerNetwork<Answer>>(json!({"other": 1})).is_err());
    }
}
