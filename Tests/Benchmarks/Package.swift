// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0

import PackageDescription

/// Where `run-rings` has left the C reference, which gcc compiles.
let reference = "\(Context.packageDirectory)/.build/reference"

let package = Package(
    name: "benchmarks",
    dependencies: [
        .package(name: "vhostd", path: "../.."),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    ],
    targets: [
        .target(name: "CDisk"),
        .target(name: "CGuest"),
        .systemLibrary(name: "CReference"),
        .executableTarget(
            name: "ISCSIBenchmark",
            dependencies: [
                .product(name: "ISCSI", package: "vhostd"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: [.swiftLanguageMode(.v6)]),
        .executableTarget(
            name: "RingBenchmark",
            dependencies: ["CGuest", "CReference", .product(name: "Virtio", package: "vhostd")],
            swiftSettings: [.swiftLanguageMode(.v6)],
            linkerSettings: [.unsafeFlags(["-L\(reference)"])]),
        .executableTarget(
            name: "StorageBenchmark",
            dependencies: [
                "CDisk",
                .product(name: "Storage", package: "vhostd"),
                .product(name: "Driver", package: "vhostd"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: [.swiftLanguageMode(.v6)]),
    ]
)
