// SPDX-License-Identifier: Apache-2.0

import Testing

/// Who serves the queues of the back-end's device.
enum Placement: CaseIterable {
    /// The device itself.
    case device
    /// Two servers with loops of their own, which the test turns in turn: letters without threads.
    case servers

    /// The one of this run of a test.
    @TaskLocal static var current = Placement.device
}

/// Runs every test of a suite once for each of some placements: what a front-end and a driver see is
/// the same.
struct PlacementTrait: SuiteTrait, TestTrait, TestScoping {
    let placements: [Placement]
    let isRecursive = true

    func provideScope(
        for test: Test, testCase: Test.Case?,
        performing function: @Sendable () async throws -> Void
    ) async throws {
        for placement in placements {
            try await Placement.$current.withValue(placement) { try await function() }
        }
    }
}

extension Trait where Self == PlacementTrait {
    /// Once with a device that serves its queues itself, and once with one that has them served.
    static var everyPlacement: Self { Self(placements: Placement.allCases) }
    /// With a device that has its queues served.
    static var servedElsewhere: Self { Self(placements: [.servers]) }
}
