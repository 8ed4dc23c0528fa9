// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Service

/// `vhostd ctl lun`: the guest's disks.
struct UnitCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lun",
        abstract: "Look at the guest's disks, add and remove them, and more.",
        discussion: """
            The guest is told of each change: by an event, which has Linux look at once, and by a
            unit attention with the next command.
            """,
        subcommands: [List.self, Add.self, Remove.self, Resize.self, Limit.self],
        defaultSubcommand: List.self)

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show the disks.")

        @OptionGroup var options: ControlOptions

        func run() throws { try options.show { $0.unitTable } }
    }

    struct Add: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Add a disk.")

        @Argument(
            help: ArgumentHelp(
                "What vhostd run takes as --lun: a file, or keys such as target=1,path=FILE.",
                discussion: "A path is the service's: give it from the root.", valueName: "unit"))
        var unit: String

        @OptionGroup var options: ControlOptions

        func run() throws { try options.change(ControlRequest(.addUnit, unit: unit)) }
    }

    struct Remove: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take a disk away.",
            discussion: "Requests under way fail: unmount it in the guest before.")

        @OptionGroup var at: PlaceArguments
        @OptionGroup var options: ControlOptions

        func run() throws { try options.change(ControlRequest(.removeUnit, place: at.place)) }
    }

    struct Resize: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Tell the guest of a file's or device's new size.")

        @OptionGroup var at: PlaceArguments
        @OptionGroup var options: ControlOptions

        func run() throws { try options.change(ControlRequest(.resizeUnit, place: at.place)) }
    }

    struct Limit: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Limit how much the guest may ask of a disk.",
            discussion: """
                The limits replace those before; one that is left out is none. A burst is what may
                be done at once after a pause; by default a tenth of a second's worth.
                """)

        @OptionGroup var at: PlaceArguments

        @Option(name: .long, help: "Operations a second.")
        var iops: UInt64?

        @Option(name: .long, help: "Operations at once.")
        var iopsBurst: UInt64?

        @Option(name: .long, help: "Bytes a second.")
        var bytesPerSecond: UInt64?

        @Option(name: .long, help: "Bytes at once.")
        var bytesBurst: UInt64?

        @OptionGroup var options: ControlOptions

        func run() throws {
            let limits = ControlRequest.limits(
                operations: iops, operationBurst: iopsBurst, bytes: bytesPerSecond,
                byteBurst: bytesBurst)
            try options.change(ControlRequest(.limitUnit, place: at.place, limits: limits))
        }
    }
}
