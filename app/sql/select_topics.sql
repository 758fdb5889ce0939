-- Topics that an application has processed.
SELECT DISTINCT topic FROM redfaust.positions WHERE app = $1
