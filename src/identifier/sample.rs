//! Valid phone numbers of every region, for demonstrations and benchmarks.

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberType};

use super::{Region, Sii, phone};

/// The trailing digits that are varied.
const VARIED_DIGITS: u32 = 6;

/// Every region with a numbering plan, in the order of their codes.
pub fn regions() -> impl Iterator<Item = Region> {
    let mut regions: Vec<_> = PHONE_NUMBER_UTIL.get_supported_regions().map(Region).collect();
    regions.sort_unstable();
    regions.into_iter()
}

/// Valid numbers of a region, distinct, always in the same order: the example of
/// a mobile number that libphonenumber gives, then its neighbours, up to a
/// million. No two regions share one; a region whose mobile numbers all belong
/// to the main region of its calling code has none.
pub fn mobile_numbers(region: Region) -> impl Iterator<Item = Sii> {
    let example = PHONE_NUMBER_UTIL
        .get_example_number_for_type_and_region(region.0, PhoneNumberType::Mobile)
        .ok();
    example.into_iter().flat_map(move |example| {
        // The first two digits stay: they make it a mobile number.
        let digits = example.national_number.checked_ilog10().unwrap_or(0) + 1;
        let span = 10_u64.pow(digits.saturating_sub(2).min(VARIED_DIGITS));
        let (head, start) = (example.national_number / span * span, example.national_number % span);
        (0..span).filter_map(move |step| {
            let mut number = example.clone();
            number.national_number = head + (start + step) % span;
            let home = PHONE_NUMBER_UTIL.get_region_for_number(&number)?;
            let valid = home == region.0 && PHONE_NUMBER_UTIL.is_valid_number(&number);
            valid.then(|| Sii::parse(&phone::e164(&number), None).ok()).flatten()
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_are_valid_and_distinct_over_all_regions() {
        let mut seen = HashSet::new();
        let mut filled = 0;
        for region in regions() {
            let numbers: Vec<_> = mobile_numbers(region).take(50).collect();
            filled += usize::from(numbers.len() == 50);
            for sii in numbers {
                let digits = sii.as_str().trim_start_matches("tel:").to_owned();
                let number = PHONE_NUMBER_UTIL.parse(&digits, None).unwrap();
                assert!(PHONE_NUMBER_UTIL.is_valid_number_for_region(&number, region.0));
                assert!(seen.insert(sii), "a number came twice in {region}");
            }
        }
        assert!(filled >= 200, "{filled} regions have fifty numbers");
    }
}
