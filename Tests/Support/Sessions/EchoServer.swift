// SPDX-License-Identifier: Apache-2.0

public import LinuxIO
public import Virtio

/// Serves queues of one echo device, or of another in its place, on a loop of its own.
///
/// Where one thread turns that loop, too, there are letters without threads: a test decides when they
/// are opened.
public final class EchoServer: QueueServer {
    public let loop: EventLoop
    /// Who echoes.
    public let device: EchoDevice

    public init(loop: EventLoop, device: EchoDevice) {
        self.loop = loop
        self.device = device
    }

    /// Where letters go while somebody keeps the server and turns its loop.
    public var address: QueueServerAddress {
        let mailbox = loop.mailbox
        let server = ThreadBound(self)
        return QueueServerAddress { letter in
            mailbox.post {
                if let server = server.object { letter(server) }
            }
        }
    }

    public func startQueue(_ queue: Virtqueue, at index: Int) {
        device.startQueue(queue, at: index)
    }

    public func driverNotified(queueAt index: Int) {
        device.driverNotified(queueAt: index)
    }

    public func stopQueue(at index: Int) {
        device.stopQueue(at: index)
    }

    public func expediteStop(ofQueueAt index: Int) {
        device.expediteStop(ofQueueAt: index)
    }
}
