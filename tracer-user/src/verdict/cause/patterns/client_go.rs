//! k8s.io/client-go with k8s.io/apimachinery: watches and informers that are not stopped.

use super::{Library, Row, remedy};

pub(super) const LIBRARY: Library =
    Library { paths: &["k8s.io/client-go", "k8s.io/apimachinery"], copies: &[], rows: ROWS };

// An informer watches, too, in a goroutine in which nothing tells so.
const WATCH: &str = "a watch{begun} is not stopped: call its Stop, or stop the informer that it belongs to";
const INFORMER: &str = "an informer{started} is never stopped: share one factory, and stop the informer by the channel or the context that it was started with";

const ROWS: &[Row] = &[
    remedy("/pkg/watch.(*StreamWatcher).receive", WATCH),
    remedy("/tools/cache.(*Reflector).*", INFORMER),
    remedy("/tools/cache.(*controller).*", INFORMER),
    remedy("/tools/cache.(*sharedIndexInformer).*", INFORMER),
    remedy("/tools/cache.(*sharedProcessor).*", INFORMER),
    remedy("/tools/cache.(*processorListener).*", INFORMER),
];
