// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0

import PackageDescription

/// Where `run-rings` has left the C reference, which gcc compiles.
let reference = "\(Context.packageDirectory)/.build/reference"

let package = Package(
    name: "benchmarks",
    dependencies: [.package(name: "vhostd", path: "../..")],
    targets: [
        .target(name: "CGuest"),
        .systemLibrary(name: "CReference"),
        .executableTarget(
            name: "RingBenchmark",
            dependencies: ["CGuest", "CReference", .product(name: "Virtio", package: "vhostd")],
            swiftSettings: [.swiftLanguageMode(.v6)],
            linkerSettings: [.unsafeFlags(["-L\(reference)"])]),
    ]
)
