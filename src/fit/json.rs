//! How a fit is written to a file and read back.

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A parameter of a fit.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// Its symbol, in letters.
    pub name: String,
    /// Its value at the optimum.
    pub value: f64,
    /// The lower end of its interval, where there was a bootstrap.
    pub low: Option<f64>,
    /// The upper end.
    pub high: Option<f64>,
}

/// The parameters of a fit, in the law's order. In a file, a map from names to value, low and high.
#[derive(Debug, Clone, PartialEq)]
pub struct Params(pub Vec<Param>);

impl Params {
    /// The parameter of a name.
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.0.iter().find(|param| param.name == name)
    }
}

#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(deserialize_with = "infinite_for_null")]
    value: f64,
    low: Option<f64>,
    high: Option<f64>,
}

impl Serialize for Params {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for Param { name, value, low, high } in &self.0 {
            map.serialize_entry(name, &Written { value: *value, low: *low, high: *high })?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Params {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Params;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from parameters to value, low and high")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Params, A::Error> {
                let mut params = Vec::new();
                while let Some((name, Written { value, low, high })) = map.next_entry()? {
                    params.push(Param { name, value, low, high });
                }
                Ok(Params(params))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// JSON has no infinity and writes null.
pub(super) fn infinite_for_null<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(d)?.unwrap_or(f64::INFINITY))
}

/// Reads the parameters of resamples, where null stands for infinity.
pub(super) fn infinities_for_nulls<'de, D: Deserializer<'de>>(
    d: D,
) -> Result<Vec<Vec<f64>>, D::Error> {
    let draws = Vec::<Vec<Option<f64>>>::deserialize(d)?;
    let finite = |value: Option<f64>| value.unwrap_or(f64::INFINITY);
    Ok(draws.into_iter().map(|values| values.into_iter().map(finite).collect()).collect())
}

/// A law by its name.
pub(super) mod law {
    use crate::laws::{Law, by_name};
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(law: &&'static dyn Law, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(law.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<&'static dyn Law, D::Error> {
        let name = String::deserialize(d)?;
        by_name(&name).map_err(D::Error::custom)
    }
}
