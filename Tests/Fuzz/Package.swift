// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0

import PackageDescription

/// A fuzzer's program: libFuzzer brings `main` and calls what the module of the fuzzer exports.
///
/// A Swift program would bring a `main` of its own, so that the program is an empty C file.
func program(_ name: String, _ module: Target.Dependency) -> Target {
    .executableTarget(
        name: name, dependencies: [module],
        linkerSettings: [.unsafeFlags(["-sanitize=fuzzer,address"])])
}

let package = Package(
    name: "fuzz",
    dependencies: [.package(name: "vhostd", path: "../..")],
    targets: [
        .target(
            name: "RingFuzz", dependencies: [.product(name: "Driver", package: "vhostd")],
            swiftSettings: [.swiftLanguageMode(.v6)]),
        program("ring-fuzzer", "RingFuzz"),
        .target(
            name: "SessionFuzz", dependencies: [.product(name: "Sessions", package: "vhostd")],
            swiftSettings: [.swiftLanguageMode(.v6)]),
        program("session-fuzzer", "SessionFuzz"),
    ]
)
