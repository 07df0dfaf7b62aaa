//! The published data sets: where their files are, what they weigh and what they hold.

/// A published file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedFile {
    /// The file's name in the data set's folder.
    pub name: String,
    /// Where it is published.
    pub url: String,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    /// Its size in bytes, for listings.
    pub bytes: u64,
}

/// A published data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedSet {
    /// The name in recipes and on the command line.
    pub name: String,
    /// One line about it.
    pub about: String,
    /// Its files.
    pub files: Vec<PublishedFile>,
}

/// The classes of MNIST.
pub const MNIST_CLASSES: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// The classes of Fashion-MNIST, in the order of its README.
pub const FASHION_CLASSES: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

/// Name, size and sum of a file.
type Entry = (&'static str, u64, &'static str);

const MNIST: [Entry; 4] = [
    ("train-images-idx3-ubyte.gz", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    ("train-labels-idx1-ubyte.gz", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    ("t10k-images-idx3-ubyte.gz", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    ("t10k-labels-idx1-ubyte.gz", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
];

const FASHION: [Entry; 4] = [
    ("train-images-idx3-ubyte.gz", 26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
    ("train-labels-idx1-ubyte.gz", 29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
    ("t10k-images-idx3-ubyte.gz", 4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    ("t10k-labels-idx1-ubyte.gz", 5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
];

const CIFAR: [Entry; 1] =
    [("cifar-10-binary.tar.gz", 170_052_171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd")];

/// The data sets that can be fetched.
pub fn published() -> Vec<PublishedSet> {
    vec![
        set(
            "mnist",
            "70,000 grey images of 28x28 pixels: handwritten digits",
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            &MNIST,
        ),
        set(
            "fashion-mnist",
            "70,000 grey images of 28x28 pixels: articles of clothing",
            // One commit of the publisher's repository: what it holds cannot change.
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/\
             b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion",
            &FASHION,
        ),
        set(
            "cifar-10",
            "60,000 colour images of 32x32 pixels: animals and vehicles",
            "https://www.cs.toronto.edu/~kriz",
            &CIFAR,
        ),
    ]
}

fn set(name: &str, about: &str, base: &str, files: &[Entry]) -> PublishedSet {
    PublishedSet {
        name: name.to_owned(),
        about: about.to_owned(),
        files: files
            .iter()
            .map(|&(file, bytes, sha256)| PublishedFile {
                name: file.to_owned(),
                url: format!("{base}/{file}"),
                sha256: sha256.to_owned(),
                bytes,
            })
            .collect(),
    }
}
