//! The words of invented people and organizations (laid out by hand: a name a line would be long).

/// Given names as written, and as an email spells them.
#[rustfmt::skip]
pub(super) const FIRST_NAMES: &[(&str, &str)] = &[
    ("Ada", "ada"), ("Aisha", "aisha"), ("Alejandro", "alejandro"), ("Alice", "alice"),
    ("Amara", "amara"), ("Ana", "ana"), ("Anders", "anders"), ("André", "andre"),
    ("Anna-Lena", "anna-lena"), ("Arjun", "arjun"), ("Astrid", "astrid"), ("Beatriz", "beatriz"),
    ("Björn", "bjorn"), ("Camille", "camille"), ("Carlos", "carlos"), ("Chen", "chen"),
    ("Chloé", "chloe"), ("Clara", "clara"), ("Daniel", "daniel"), ("David", "david"),
    ("Deepa", "deepa"), ("Diego", "diego"), ("Dmitri", "dmitri"), ("Elena", "elena"),
    ("Emeka", "emeka"), ("Emma", "emma"), ("Fatima", "fatima"), ("Felix", "felix"),
    ("Finn", "finn"), ("Francesca", "francesca"), ("Freya", "freya"), ("Gabriel", "gabriel"),
    ("Grace", "grace"), ("Hana", "hana"), ("Hassan", "hassan"), ("Henrik", "henrik"),
    ("Hiroshi", "hiroshi"), ("Ibrahim", "ibrahim"), ("Ines", "ines"), ("Ingrid", "ingrid"),
    ("Isabel", "isabel"), ("Ivan", "ivan"), ("Jamal", "jamal"), ("James", "james"),
    ("Jean-Luc", "jean-luc"), ("Joana", "joana"), ("José", "jose"), ("Jürgen", "jurgen"),
    ("Kaito", "kaito"), ("Katarzyna", "katarzyna"), ("Kofi", "kofi"), ("Laila", "laila"),
    ("Lars", "lars"), ("Léa", "lea"), ("Leila", "leila"), ("Liam", "liam"), ("Linh", "linh"),
    ("Lucía", "lucia"), ("Łukasz", "lukasz"), ("Maria", "maria"), ("Mateo", "mateo"),
    ("Maya", "maya"), ("Mei", "mei"), ("Mia", "mia"), ("Miguel", "miguel"), ("Milan", "milan"),
    ("Nadia", "nadia"), ("Naoko", "naoko"), ("Nia", "nia"), ("Nikolai", "nikolai"),
    ("Noah", "noah"), ("Nora", "nora"), ("Olga", "olga"), ("Oliver", "oliver"), ("Omar", "omar"),
    ("Paolo", "paolo"), ("Petra", "petra"), ("Priya", "priya"), ("Rafael", "rafael"),
    ("Ravi", "ravi"), ("René", "rene"), ("Rosa", "rosa"), ("Ruth", "ruth"), ("Samir", "samir"),
    ("Sara", "sara"), ("Selin", "selin"), ("Siobhán", "siobhan"), ("Sofia", "sofia"),
    ("Sven", "sven"), ("Tariq", "tariq"), ("Thandiwe", "thandiwe"), ("Theo", "theo"),
    ("Thomas", "thomas"), ("Uma", "uma"), ("Valentina", "valentina"), ("Victor", "victor"),
    ("Wei", "wei"), ("Yara", "yara"), ("Yuki", "yuki"), ("Zoë", "zoe"),
];

/// Family names as written, and as an email spells them.
#[rustfmt::skip]
pub(super) const LAST_NAMES: &[(&str, &str)] = &[
    ("Abebe", "abebe"), ("Adeyemi", "adeyemi"), ("Ahmed", "ahmed"), ("Almeida", "almeida"),
    ("Andersson", "andersson"), ("Bauer", "bauer"), ("Becker", "becker"), ("Bianchi", "bianchi"),
    ("Brown", "brown"), ("Castillo", "castillo"), ("Chaudhry", "chaudhry"), ("Chukwu", "chukwu"),
    ("Costa", "costa"), ("D'Angelo", "dangelo"), ("da Silva", "dasilva"), ("Davies", "davies"),
    ("de la Cruz", "delacruz"), ("Diallo", "diallo"), ("Dubois", "dubois"),
    ("Eriksen", "eriksen"), ("Fernández", "fernandez"), ("Fischer", "fischer"),
    ("Fontaine", "fontaine"), ("Garcia", "garcia"), ("Girard", "girard"),
    ("Gonçalves", "goncalves"), ("Gupta", "gupta"), ("Haddad", "haddad"), ("Hansen", "hansen"),
    ("Hernández", "hernandez"), ("Hoffmann", "hoffmann"), ("Hussein", "hussein"),
    ("Iyer", "iyer"), ("Jansen", "jansen"), ("Johnson", "johnson"), ("Jones", "jones"),
    ("Kamau", "kamau"), ("Keller", "keller"), ("Khan", "khan"), ("Kim", "kim"),
    ("King, Jr.", "king"), ("Kowalski", "kowalski"), ("Kuznetsov", "kuznetsov"),
    ("Larsen", "larsen"), ("Lefèvre", "lefevre"), ("Li", "li"), ("Lopez", "lopez"),
    ("MacDonald", "macdonald"), ("Martin", "martin"), ("Mbeki", "mbeki"), ("Mendes", "mendes"),
    ("Meyer", "meyer"), ("Moreau", "moreau"), ("Müller", "muller"), ("Murphy", "murphy"),
    ("Nakamura", "nakamura"), ("Nguyen", "nguyen"), ("Novák", "novak"), ("O'Brien", "obrien"),
    ("Okafor", "okafor"), ("Okonkwo", "okonkwo"), ("Olsen", "olsen"), ("Owusu", "owusu"),
    ("Papadopoulos", "papadopoulos"), ("Park", "park"), ("Patel", "patel"),
    ("Pereira", "pereira"), ("Petrov", "petrov"), ("Ramirez", "ramirez"), ("Rossi", "rossi"),
    ("Russo", "russo"), ("Sánchez", "sanchez"), ("Sato", "sato"), ("Schmidt", "schmidt"),
    ("Schröder", "schroder"), ("Sharma", "sharma"), ("Singh", "singh"), ("Smith", "smith"),
    ("Sørensen", "sorensen"), ("Suzuki", "suzuki"), ("Svensson", "svensson"),
    ("Takahashi", "takahashi"), ("Tanaka", "tanaka"), ("Taylor", "taylor"), ("Torres", "torres"),
    ("Tran", "tran"), ("van den Berg", "vandenberg"), ("Varga", "varga"),
    ("Virtanen", "virtanen"), ("Walker", "walker"), ("Wang", "wang"), ("Weber", "weber"),
    ("Williams", "williams"), ("Wójcik", "wojcik"), ("Wright", "wright"),
    ("Yamamoto", "yamamoto"), ("Yılmaz", "yilmaz"), ("Zhang", "zhang"), ("Ziegler", "ziegler"),
    ("Zulu", "zulu"),
];

/// Domains that can never belong to anybody (RFC 2606).
#[rustfmt::skip]
pub(super) const DOMAINS: &[&str] = &[
    "example.com", "example.org", "example.net", "mail.example", "corp.example",
];

/// Departments, for metadata.
#[rustfmt::skip]
pub(super) const DEPARTMENTS: &[&str] = &[
    "Sales", "Engineering", "Support", "Finance", "Marketing", "Legal", "Operations", "Research",
];

/// First words of organization names.
#[rustfmt::skip]
pub(super) const ORG_FIRST: &[&str] = &[
    "Acme", "Alder", "Amber", "Atlas", "Birch", "Cedar", "Cobalt", "Copper", "Delta", "Elm",
    "Falcon", "Granite", "Harbor", "Indigo", "Juniper", "Keystone", "Lumen", "Maple", "Meridian",
    "North Star", "Oak & Sons", "Orchid", "Pioneer", "Quartz", "River", "Sable", "Summit",
    "Tundra", "Umbra", "Vertex", "Willow", "Zenith",
];

/// Last words of organization names.
#[rustfmt::skip]
pub(super) const ORG_LAST: &[&str] = &[
    "Analytics", "Bank", "Bakery", "Clinic", "Consulting", "Energy", "Foods", "Freight",
    "Insurance", "Labs", "Logistics", "Media", "Robotics", "Software", "Studios", "Textiles",
];
