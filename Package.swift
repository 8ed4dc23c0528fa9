// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0

import PackageDescription

/// One row of the layering: a module and all that it may import.
struct Layer {
    /// Whether the module stands on the data path: its bodies are then offered to every module
    /// above, so that a ring specialises across module borders.
    enum Path { case data, control }

    let name: String
    let path: Path
    let imports: [String]
    let packages: [Target.Dependency]

    init(_ name: String, _ path: Path, imports: [String], packages: [Target.Dependency] = []) {
        self.name = name
        self.path = path
        self.imports = imports
        self.packages = packages
    }
}

let system = Target.Dependency.product(name: "SystemPackage", package: "swift-system")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let arguments = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")

/// The layering of the house: who may import whom.
///
/// A module sees what its row names, nothing else.
let layers = [
    Layer("LinuxIO", .data, imports: ["CLinux"], packages: [system]),
    Layer("Virtio", .data, imports: ["LinuxIO"]),
    Layer("VhostUser", .control, imports: ["Virtio", "LinuxIO"], packages: [logging, system]),
    Layer("VirtioVsock", .data, imports: ["Virtio", "LinuxIO"], packages: [logging, system]),
    Layer("BlockStorage", .data, imports: ["LinuxIO"]),
    Layer("SCSI", .data, imports: ["BlockStorage", "LinuxIO"]),
    Layer(
        "VirtioSCSI", .data, imports: ["Virtio", "SCSI", "BlockStorage", "LinuxIO"],
        packages: [logging]),
    Layer(
        "FileBackstore", .data, imports: ["BlockStorage", "LinuxIO", "CLibaio", "CLinux"],
        packages: [logging, system]),
    Layer(
        "ISCSIBackstore", .data, imports: ["SCSI", "LinuxIO", "CLibiscsi"],
        packages: [logging, system]),
    Layer(
        "Service", .control,
        imports: [
            "VhostUser", "VirtioVsock", "VirtioSCSI", "SCSI", "FileBackstore", "ISCSIBackstore",
            "BlockStorage", "Virtio", "LinuxIO",
        ], packages: [logging, system]),
]

/// What the tests share: the other side of each protocol, written once.
let supports = [
    Layer("Driver", .data, imports: ["Virtio", "LinuxIO"], packages: [system]),
    Layer(
        "Kernel", .control, imports: ["FileBackstore", "LinuxIO", "CLibaio"]),
    Layer(
        "FrontEnd", .control, imports: ["Driver", "Virtio", "LinuxIO"], packages: [system]),
    Layer(
        "Sessions", .control,
        imports: ["VhostUser", "Virtio", "LinuxIO", "Driver", "FrontEnd", "Kernel"],
        packages: [logging, system]),
    Layer("Guests", .control, imports: []),
    Layer("Targets", .control, imports: ["Guests", "LinuxIO"]),
    Layer("Stores", .control, imports: ["BlockStorage", "LinuxIO"]),
]

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]
let dataPath: [SwiftSetting] =
    strict + [.unsafeFlags(["-cross-module-optimization"], .when(configuration: .release))]

func target(_ layer: Layer, at path: String? = nil) -> Target {
    .target(
        name: layer.name,
        dependencies: layer.imports.map { .target(name: $0) } + layer.packages,
        path: path,
        swiftSettings: layer.path == .data ? dataPath : strict)
}

func tests(_ name: String, _ dependencies: [String], packages: [Target.Dependency] = []) -> Target {
    .testTarget(
        name: name, dependencies: dependencies.map { .target(name: $0) } + packages,
        swiftSettings: strict)
}

let package = Package(
    name: "vhostd",
    products: [
        .executable(name: "vhostd", targets: ["vhostd"]),
        // For the benchmarks, a package of their own.
        .library(name: "Virtio", targets: ["Virtio", "LinuxIO"]),
        .library(name: "ISCSI", targets: ["ISCSIBackstore", "SCSI", "LinuxIO"]),
        .library(
            name: "Storage",
            targets: [
                "BlockStorage", "FileBackstore", "LinuxIO", "SCSI", "VhostUser", "VirtioSCSI",
            ]),
        // For the fuzzers and the benchmarks.
        .library(name: "Driver", targets: ["Driver", "FrontEnd"]),
        .library(name: "Sessions", targets: ["Sessions"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    ],
    targets: [
        .target(name: "CLinux"),
        .systemLibrary(name: "CLibaio", providers: [.apt(["libaio-dev"])]),
        // Loads libiscsi when it is asked for; its headers are those of the package libiscsi-dev.
        .target(name: "CLibiscsi"),
        .executableTarget(
            name: "vhostd", dependencies: ["Service", arguments], swiftSettings: strict),
    ]
        + layers.map { target($0) }
        + supports.map { target($0, at: "Tests/Support/\($0.name)") }
        + [
            tests("LinuxIOTests", ["LinuxIO", "Kernel"], packages: [system]),
            tests(
                "FileBackstoreTests",
                ["FileBackstore", "SCSI", "BlockStorage", "LinuxIO", "Kernel"],
                packages: [system]),
            tests("ArchitectureTests", ["LinuxIO"]),
            tests("BlockStorageTests", ["BlockStorage", "LinuxIO", "Stores", "Kernel"]),
            tests(
                "ServiceTests", ["Service", "VirtioVsock", "LinuxIO", "Guests"],
                packages: [logging]),
            tests("VirtioTests", ["Virtio", "LinuxIO", "Driver"]),
            tests("ContractTests", ["Virtio", "LinuxIO", "Driver"]),
            tests(
                "VirtioVsockTests", ["VirtioVsock", "Virtio", "LinuxIO", "Driver"],
                packages: [logging, system]),
            tests(
                "VhostUserTests",
                ["VhostUser", "Virtio", "LinuxIO", "Driver", "FrontEnd", "Kernel", "Sessions"],
                packages: [logging, system]),
            tests("EndToEndTests", ["Guests", "FrontEnd", "Driver", "LinuxIO"]),
            tests(
                "ISCSITests", ["ISCSIBackstore", "SCSI", "LinuxIO", "Targets", "Guests"],
                packages: [logging]),
            .testTarget(
                name: "GuestTests", dependencies: ["Guests", "Targets"], path: "Tests/Guests",
                exclude: ["Image", "Program", "README.md", "Scenarios", "newer-kernel"],
                swiftSettings: strict),
            tests("SCSITests", ["SCSI", "BlockStorage", "LinuxIO", "Stores"]),
            tests(
                "VirtioSCSITests",
                ["VirtioSCSI", "SCSI", "Virtio", "BlockStorage", "LinuxIO", "Stores", "Driver"],
                packages: [logging]),
        ]
)
