// SPDX-License-Identifier: Apache-2.0
import Foundation

/// Runs `body`, which may block for long, on a thread of its own, so that it keeps none of the few
/// threads that run all asynchronous code.
public func onOwnThread<Result: Sendable>(
    _ body: @escaping @Sendable () throws -> Result
) async throws -> Result {
    try await withCheckedThrowingContinuation { continuation in
        detachThread {
            continuation.resume(with: Swift.Result { try body() })
        }
    }
}
